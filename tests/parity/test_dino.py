"""Objectives of self-distillation against upstream's numbers."""

import json
from random import Random

import numpy as np
import pytest
import torch

from appulse.align.published import _renamed
from appulse.image.dino import Dino, DinoConfig, Views, parameter_groups
from appulse.image.dino_head import DinoHead, DinoHeadConfig
from appulse.image.dino_loss import Centering, dino_loss, ibot_loss, koleo_loss, sinkhorn
from appulse.image.distortions import NOISE, SEEING, added, blurred
from appulse.image.masking import BlockMaskConfig, block_mask, block_masks
from appulse.image.vit import VisionTransformerConfig
from appulse.training.schedules import CosineSchedule, warmup_cosine

from .conftest import assert_parity


def head_state(state, prefix=""):
    """Upstream's head under our names."""
    named = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    ours = {n: t for n, t in named.items() if n.startswith("mlp.")}
    if "last_layer.weight_g" in named:
        ours["length"] = named["last_layer.weight_g"][:, 0]
    return {**ours, "direction": named["last_layer.weight_v"]}


def test_head(golden):
    made = golden("dino_head")
    head = DinoHead(DinoHeadConfig(prototypes=40, hidden=32, bottleneck=16), 24)
    head.load_state_dict(head_state(made.state))
    x = made.tensors["x"].clone().requires_grad_()
    out = head(x)
    assert_parity(out, made.tensors["out"])
    out.square().sum().backward()
    assert_parity(x.grad, made.tensors["grad.x"], 1e-4)
    gradients = head_state(made.tensors, "grad.")
    for name, parameter in head.named_parameters():
        assert_parity(parameter.grad, gradients[name], 1e-4)


def test_dino_loss_and_its_centre(golden):
    theirs, centre = golden("dino_loss").tensors, Centering(40)
    for i, temperature in enumerate([0.04, 0.055, 0.07]):
        logits = theirs[f"{i}.teacher"]
        torch.testing.assert_close(centre.center[None], theirs[f"{i}.center_used"])
        probabilities = centre(logits, temperature)
        torch.testing.assert_close(probabilities, theirs[f"{i}.teacher_probs"])
        torch.testing.assert_close(sinkhorn(logits, temperature), theirs[f"{i}.sinkhorn"])
        students = [theirs[f"{i}.student{j}"] for j in range(4)]
        local = dino_loss(students, probabilities.chunk(2))
        torch.testing.assert_close(local[None], theirs[f"{i}.loss_local"])
        whole = dino_loss([torch.cat(students[:2])], [probabilities])
        torch.testing.assert_close(whole[None], theirs[f"{i}.loss_global"])
    torch.testing.assert_close(centre.center[None], theirs["center_final"])


def test_ibot_loss(golden):
    theirs, centre = golden("ibot_loss").tensors, Centering(40)
    for i in range(2):
        mask = theirs[f"{i}.mask"].bool()
        probabilities = centre(theirs[f"{i}.teacher"], 0.05)
        torch.testing.assert_close(probabilities, theirs[f"{i}.teacher_probs"])
        weight = (1 / mask.sum(1).clamp(min=1))[:, None].expand_as(mask)[mask]
        torch.testing.assert_close(weight, theirs[f"{i}.masks_weight"])
        student = theirs[f"{i}.student"].clone().requires_grad_()
        loss = ibot_loss(student, probabilities, weight, len(mask))
        torch.testing.assert_close(loss[None], theirs[f"{i}.loss"])
        loss.backward()
        assert_parity(student.grad, theirs[f"{i}.grad_student"], 1e-4)
    torch.testing.assert_close(centre.center, theirs["center_final"][0, 0])


def test_koleo_loss(golden):
    theirs = golden("koleo_loss").tensors
    for i in range(3):
        x = theirs[f"{i}.x"].clone().requires_grad_()
        loss = koleo_loss(x)
        torch.testing.assert_close(loss[None], theirs[f"{i}.loss"])
        loss.backward()
        assert_parity(x.grad, theirs[f"{i}.grad"], 1e-4)
    torch.testing.assert_close(koleo_loss(theirs["dup.x"])[None], theirs["dup.loss"])


def test_masks(golden):
    theirs, random = golden("masking").tensors, Random(1234)
    for i, patches in enumerate([14, 30, 57, 72, 5, 0, 3]):
        np.testing.assert_array_equal(block_mask(12, patches, random), theirs[f"mask{i}"])
    masks = block_masks(8, 12, BlockMaskConfig(), Random(1239))
    torch.testing.assert_close(masks, theirs["collate.masks"].bool())


def test_schedules(golden):
    theirs = golden("schedules").tensors
    cases = [(10_000, 1000, 1e-4, 0.0), (100, 10, 1e-3, 1e-5), (50, 0, 0.5, 0.1)]
    for i, (steps, warmup, rate, floor) in enumerate(cases):
        ours = [
            rate * warmup_cosine(int(s), steps, warmup, floor / rate) for s in theirs[f"{i}.step"]
        ]
        np.testing.assert_allclose(ours, theirs[f"{i}.lr"], rtol=1e-6, atol=1e-12)
    for name, schedule in {
        "dino_lr": CosineSchedule(2e-4, 1e-6, 400, 64),
        "dino_momentum": CosineSchedule(0.992, 1.0, 400),
        "dino_teacher_temp": CosineSchedule(0.07, 0.07, 60, 60, 0.04),
    }.items():
        ours = [schedule(step) for step in range(450)]
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-6, atol=1e-12)


def test_seeing_and_noise(golden):
    theirs, rng = golden("augment").tensors, np.random.RandomState(1234)
    for i in range(6):
        base = theirs[f"{i}.base"].numpy()
        sigma = added(NOISE, torch.from_numpy(rng.normal(size=(2, 3)))).numpy()
        np.testing.assert_allclose(sigma, theirs[f"{i}.noise_sigma_augment"], rtol=1e-5)
        noise = [rng.normal(0, s, base.shape[1:]) if s > 0 else np.zeros((1, 1)) for s in sigma]
        for plane, n, noised in zip(base, noise, theirs[f"{i}.noised"], strict=True):
            np.testing.assert_allclose(plane + n, noised, atol=1e-6)
        sigma = added(SEEING, torch.from_numpy(rng.normal(size=(2, 3)))).float()
        np.testing.assert_allclose(sigma, theirs[f"{i}.blur_sigma_augment"], rtol=1e-5)
        seen = blurred(torch.from_numpy(base), sigma)
        np.testing.assert_allclose(seen, theirs[f"{i}.blurred"], atol=1e-6)


def test_groups_of_parameters(shared):
    theirs = json.loads((shared / "golden" / "dino_param_groups.json").read_text())
    trunk = VisionTransformerConfig(
        width=24,
        depth=4,
        heads=3,
        colours="rgb",
        positions="learned",
        class_token=True,
        layer_scale=1e-5,
    )
    model = Dino(trunk, DinoConfig(head=DinoHeadConfig(48, 32, 16)), 1)
    names = [name for name, _ in model.student.named_parameters()]
    groups = zip(names, parameter_groups(model), strict=True)
    ours = {name: (group.rate, group.decay) for name, group in groups}
    for group in theirs:
        names = _renamed({f"backbone.{group['name']}": torch.ones(3)}, [(r"^backbone", "trunk")])
        for name in names:
            rate, decay = ours.pop(name)
            assert rate == pytest.approx(group["lr_multiplier"])
            assert decay == group["wd_multiplier"], name
    assert all(name.startswith("head.") and ours[name][0] == 1 for name in ours)


def upstreams(tensors):
    """Student and teacher with the weights of the fixture."""
    trunk = VisionTransformerConfig(
        width=24,
        depth=2,
        heads=3,
        colours="rgb",
        positions="learned",
        class_token=True,
        layer_scale=1e-5,
        norm_eps=1e-6,
    )
    config = DinoConfig(
        head=DinoHeadConfig(48, 32, 16), temperature=(0.04, 0.055), warmup=2, stochastic_depth=0.0
    )
    model = Dino(trunk, config, 250_000)
    for name in ("student", "teacher"):
        state = {f"backbone.{n}": t for n, t in below(tensors, f"{name}.backbone.").items()}
        network = getattr(model, name)
        network.trunk.load_state_dict(below(_renamed(state, [(r"^backbone", "trunk")]), "trunk."))
        network.head.load_state_dict(head_state(tensors, f"{name}.dino_head."))
    return model


def below(tensors, prefix):
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def assert_losses(losses, theirs):
    assert losses["local"].item() == pytest.approx(theirs["dino_local_crops_loss"], rel=1e-5)
    assert losses["global"].item() == pytest.approx(theirs["dino_global_crops_loss"], rel=1e-5)
    assert losses["koleo"].item() == pytest.approx(2 * theirs["koleo_loss"], rel=1e-5)
    assert losses["ibot"].item() == pytest.approx(2 * theirs["ibot_loss"], rel=1e-5)


def assert_gradients(student, theirs):
    head = student.head
    assert_parity(head.direction.grad, theirs.pop("dino_head.last_layer.weight_v"), 1e-4)
    assert_parity(head.mlp[0].weight.grad, theirs.pop("dino_head.mlp.0.weight"), 1e-4)
    found = dict(student.named_parameters())
    for name, gradient in _renamed(theirs, [(r"^backbone", "trunk")]).items():
        assert_parity(found[name].grad, gradient, 1e-4)


def test_one_whole_step(golden, shared):
    tensors = golden("ssl_step").tensors
    about = json.loads((shared / "golden" / "ssl_step.json").read_text())
    model = upstreams(tensors)
    views = Views(
        tensors["data.collated_global_crops"].float() / 255,
        tensors["data.collated_local_crops"].float() / 255,
        tensors["data.collated_masks"].bool(),
    )
    for i, theirs in enumerate(about["loss_dicts"]):
        model.zero_grad()
        losses = model.losses(views)
        assert_losses(losses, theirs)
        torch.stack(list(losses.values())).sum().backward()
        assert_gradients(model.student, below(tensors, f"{i}.grad."))
        model.step += 1
    torch.testing.assert_close(model.center_images.center[None], tensors["dino_center_final"])
    torch.testing.assert_close(model.center_patches.center, tensors["ibot_center_final"][0, 0])
