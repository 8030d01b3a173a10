from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from appulse.image.augment import CropConfig, multi_crop
from appulse.image.dino import Dino, DinoConfig, parameter_groups
from appulse.image.dino_head import DinoHeadConfig
from appulse.image.dino_loss import Centering, dino_loss, koleo_loss, sinkhorn
from appulse.image.masking import BlockMaskConfig
from appulse.image.preprocess import image_flux
from appulse.image.views import Views, random_views
from appulse.image.vit import VisionTransformerConfig
from appulse.survey.images import Images
from appulse.survey.rgb import to_rgb
from appulse.training.distribution import Objective

DEVICE = torch.device("cpu")

TRUNK = VisionTransformerConfig(size=48, patch=12, width=32, depth=2, heads=2, class_token=True)
CONFIG = DinoConfig(
    crops=CropConfig(whole=48, part=24, parts=2),
    head=DinoHeadConfig(prototypes=64, hidden=32, bottleneck=16),
    warmup=10,
    stochastic_depth=0.2,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Dino(TRUNK, CONFIG, 20)


def views(galaxies, seed=0):
    torch.manual_seed(seed)
    return random_views(image_flux(galaxies.images), TRUNK, CONFIG.crops, CONFIG.masks)


def test_the_teacher_is_the_students_running_mean(model, galaxies):
    before = [p.clone() for p in model.teacher.parameters()]
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    model.update_teacher()
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + (1 - CONFIG.momentum), atol=1e-6, rtol=1e-5)
    assert model.step == 1


def test_the_gradient_reaches_the_whole_student_and_no_teacher(model, galaxies):
    model.train()
    model.loss(image_flux(galaxies.images)).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    for name, parameter in model.student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_training_agrees_on_what_differs_between_galaxies():
    """Galaxies of one colour each: views of one are told alike, and not all alike (collapse)."""
    rng = np.random.default_rng(0)
    colour = 10 ** rng.uniform(-2, 0, (24, 3, 1, 1))
    images = Images.from_arrays(colour + 0.005 * rng.normal(size=(24, 3, 60, 60)))
    config = replace(CONFIG, momentum=0.9, temperature=(0.04, 0.04), warmup=1, stochastic_depth=0.0)
    torch.manual_seed(0)
    model = Dino(TRUNK, config, 60)
    optimizer = torch.optim.AdamW(
        [{"params": [g.parameter], "lr": 3e-3 * g.rate} for g in parameter_groups(model)]
    )
    for _ in range(90):
        seen = model.views(image_flux(images))
        losses = model.losses(seen)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        model.update_teacher()
    told, _ = model._teach(seen, 0.04)
    use = told.mean(0)
    assert losses["local"] + losses["global"] < 0.65 * np.log(64)  # that of saying nothing
    assert -(use * use.clamp(min=1e-9).log()).sum() > np.log(6)  # prototypes in use
    assert model.eval().validate(images)["spread"] > 0.3


def test_validation_leaves_no_trace(model, galaxies):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = model.eval().validate(galaxies.images)
    assert model.validate(galaxies.images) == first
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


def test_views_follow_from_the_seed(galaxies):
    for one, other in zip(views(galaxies, 3), views(galaxies, 3), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(views(galaxies, 3).whole, views(galaxies, 4).whole)
    whole, parts, hidden = views(galaxies)
    assert whole.shape == (40, 3, 48, 48)
    assert parts.shape == (40, 3, 24, 24)
    assert hidden.shape == (40, 16)
    assert (hidden.sum(1) > 0).sum() <= 20


def test_pictures_are_made_after_seeing_and_noise(galaxies):
    trunk = replace(TRUNK, colours="rgb")
    flux = image_flux(galaxies.images)
    torch.manual_seed(0)
    plain = multi_crop(flux, CONFIG.crops)
    torch.manual_seed(0)
    seen = random_views(flux, trunk, CONFIG.crops, BlockMaskConfig())
    for ours, flux in zip(seen[:2], plain, strict=True):
        np.testing.assert_allclose(ours, to_rgb(flux.numpy()), atol=1e-6)


def test_a_trunk_without_class_token_is_refused():
    with pytest.raises(ValueError, match="needs a class token; the trunk has none"):
        Dino(replace(TRUNK, class_token=False), CONFIG, 20)


def test_one_global_term_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.25, 0.75]])
    logits = np.array([10.0, 20.0])
    expected = -(0.25 * logits[0] + 0.75 * logits[1]) + np.log(np.exp(logits).sum())
    assert dino_loss([student], [teacher]).item() == pytest.approx(expected, rel=1e-5)


def test_the_centre_makes_a_favourite_prototype_less_so():
    centre, logits = Centering(3, momentum=0.5), torch.tensor([[3.0, 0, 0], [3.0, 0, 0.1]])
    first = centre(logits, 1.0)
    for _ in range(20):
        later = centre(logits, 1.0)
    assert first[:, 0].min() > 0.8
    assert later[:, 0].max() < 0.4


def test_sinkhorn_uses_all_prototypes_alike():
    torch.manual_seed(0)
    q = sinkhorn(torch.randn(12, 4) + torch.tensor([5.0, 0, 0, 0]), 1.0, iterations=50)
    torch.testing.assert_close(q.sum(1), torch.ones(12))
    torch.testing.assert_close(q.sum(0), torch.full((4,), 3.0), atol=1e-3, rtol=0)


def test_koleo_pushes_near_vectors_apart():
    angle = torch.tensor([0.0, 0.1, 2.0, 4.0], requires_grad=True)
    koleo_loss(torch.stack([angle.cos(), angle.sin()], 1)).backward()
    assert angle.grad[0] > 0 > angle.grad[1]  # downhill is apart


def logits():
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def galaxies_of(rows):
    """Views of some of four galaxies: two whole crops and two parts of each."""
    rng = torch.Generator().manual_seed(1)
    whole, parts = (torch.randn(2, 4, 3, n, n, generator=rng)[:, rows] for n in (48, 24))
    hidden = (torch.rand(2, 4, 16, generator=rng) < 0.4)[:, rows]
    return Views(*(x.flatten(0, 1) for x in (whole, parts, hidden)))


def gradients(teacher, rows, wrap=lambda objective: objective):
    """Of everything but KoLeo."""
    torch.manual_seed(0)
    model = Dino(TRUNK, replace(CONFIG, stochastic_depth=0.0, teacher=teacher), 20)

    def loss(m, views):
        return sum(value for name, value in m.losses(views).items() if name != "koleo")

    wrapped = wrap(Objective(model, loss))  # DDP averages as long as it lives
    wrapped(galaxies_of(rows)).backward()
    return {f"{teacher}.{name}": p.grad for name, p in model.student.named_parameters()}


TWO_RANKS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from safetensors.torch import save_file
from test_dino import *
from appulse.training.distribution import join_ranks, parallel, rank
join_ranks()
rows = slice(2 * rank(), 2 * rank() + 2)
found = {{**gradients("centering", rows, parallel), **gradients("sinkhorn", rows, parallel)}}
mine = logits()[6:] if rank() else logits()[:6]
centre = Centering(4)
centre(mine, 1.0)
centre(mine[: 3 * rank()], 1.0)  # nothing hidden on the first rank
centre(mine[:0], 1.0)  # nor on any
assigned = sinkhorn(mine, 0.5)
found |= {{"centre": centre.center, "assigned": assigned}}
save_file(found, sys.argv[1] + str(rank()))
"""


def test_two_ranks_have_the_centres_and_gradients_of_the_joint_batch(torchrun, tmp_path):
    process = torchrun(TWO_RANKS, tmp_path / "rank")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    one, two = (load_file(tmp_path / f"rank{i}") for i in range(2))
    centre = Centering(4)
    centre(logits(), 1.0)
    centre(logits()[6:], 1.0)
    torch.testing.assert_close(one["centre"], centre.center)
    torch.testing.assert_close(two["centre"], centre.center)
    whole = torch.cat([one["assigned"], two["assigned"]])
    torch.testing.assert_close(whole, sinkhorn(logits(), 0.5))
    joint = gradients("centering", slice(None)) | gradients("sinkhorn", slice(None))
    for name, gradient in joint.items():
        for rank in (one, two):
            assert (rank[name] - gradient).norm() < 1e-5 * gradient.norm(), name


def test_koleo_knows_the_nearest_of_near_vectors_under_autocast():
    rng = torch.Generator().manual_seed(0)
    x = 1 + 0.02 * torch.randn(72, 384, generator=rng)
    expected = koleo_loss(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert koleo_loss(x) == expected
