"""Our towers with upstream's weights give upstream's numbers."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from appulse.align.head import AttentionPool, PoolConfig
from appulse.align.published import Heads, _renamed, astroclip, build, specformer, teacher
from appulse.image.preprocess import prepare_picture
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.training.contrastive import contrastive_loss

from .conftest import assert_parity


@pytest.fixture
def tiny(golden):
    """The tiny AstroCLIP, and what upstream made of two galaxies."""
    made = golden("astroclip_tiny")
    sizes = made.config
    heads = Heads(
        sizes["vit"]["num_heads"], sizes["specformer"]["num_heads"], sizes["head"]["n_head"]
    )
    return build(astroclip(made.state, heads)), made.tensors


def pictures(tensors) -> Images:
    return Images.from_arrays(tensors["image_rgb"].numpy(), kind="rgb")


def spectra(tensors) -> Spectra:
    return Spectra.from_arrays(tensors["spectrum"][..., 0].numpy())


@torch.no_grad()
def test_image_tower(tiny):
    model, theirs = tiny
    inputs = model.image.prepare(pictures(theirs))
    assert_parity(inputs.flux, theirs["image_rgb"])
    tokens = model.image.tokens(inputs)
    assert_parity(tokens, theirs["image_tokens_nopos_nocls"])
    head = model.image.head
    assert_parity(
        head.norm(head.gather.read(head.query, tokens))[:, None], theirs["image_cross_attention"]
    )
    assert_parity(head(inputs.features, tokens), theirs["image_embedding"])


@torch.no_grad()
def test_spectrum_tower(tiny):
    model, theirs = tiny
    inputs = model.spectrum.prepare(spectra(theirs))
    tokens = model.spectrum.tokens(inputs)
    assert_parity(tokens, theirs["spectrum_tokens"])
    head = model.spectrum.head
    gathered = head.norm(head.gather.read(head.query, tokens))[:, None]
    assert_parity(gathered, theirs["spectrum_cross_attention"])
    assert_parity(head(inputs.features, tokens), theirs["spectrum_embedding"])


def test_embeddings_and_loss(tiny):
    model, theirs = tiny
    image = model.embed_images(pictures(theirs), device="cpu")
    spectrum = model.embed_spectra(spectra(theirs), device="cpu")
    assert_parity(torch.from_numpy(image), F.normalize(theirs["image_embedding"]))
    assert_parity(torch.from_numpy(spectrum), F.normalize(theirs["spectrum_embedding"]))
    assert model.inverse_temperature.item() == pytest.approx(15.5, rel=1e-6)
    loss = contrastive_loss(
        theirs["image_embedding"], theirs["spectrum_embedding"], model.inverse_temperature
    )
    assert loss.item() == pytest.approx(theirs["train_loss_withlogit"].item(), rel=1e-5)


def test_attention_is_the_pooling_weights(tiny):
    model, theirs = tiny
    image = model.attention(pictures(theirs), device="cpu")
    assert_parity(torch.from_numpy(image), theirs["image_attention_weights"].view(2, 4, 12, 12))
    weights, wavelength = model.attention(spectra(theirs), device="cpu")
    assert_parity(torch.from_numpy(weights), theirs["spectrum_attention_weights"][:, :, 0, 1:])
    brightness = theirs["spectrum_attention_weights"][:, :, 0, 0].numpy()
    np.testing.assert_allclose(weights.sum(-1) + brightness, 1, atol=1e-5)
    starts = 3600 + 0.8 * 10 * np.arange(777)
    np.testing.assert_allclose(wavelength[1], starts + 0.8 * 9.5, rtol=1e-5)


def test_a_batch_of_one_equals_its_row(tiny):
    """Upstream raises IndexError here."""
    model, theirs = tiny
    image = model.embed_images(pictures(theirs)[1], device="cpu")
    spectrum = model.embed_spectra(spectra(theirs)[1], device="cpu")
    assert_parity(torch.from_numpy(image), F.normalize(theirs["image_embedding"][1:]))
    assert_parity(torch.from_numpy(spectrum), F.normalize(theirs["spectrum_embedding"][1:]))
    assert model.attention(pictures(theirs)[1], device="cpu").shape == (1, 4, 12, 12)
    assert model.attention(spectra(theirs)[1], device="cpu").weights.shape == (1, 4, 777)


@pytest.mark.parametrize(
    "name",
    [
        "specformer_tiny_7781",
        "specformer_stdclip",
        "specformer_edge_len1000",
        "specformer_edge_len1005",
        "specformer_edge_len1019",
        "specformer_edge_len7780",
    ],
)
@torch.no_grad()
def test_specformer(golden, name):
    made = golden(name)
    sizes = {"slice_section_length": 20, "slice_overlap": 10, **made.config}
    stride = sizes["slice_section_length"] - sizes["slice_overlap"]
    heads = Heads(0, sizes["num_heads"], 0)
    trunk = build(specformer(made.state, heads, stride)).spectrum.trunk
    flux = made.tensors["spectrum"][..., 0]
    wavelength = 3600 + 0.8 * torch.arange(flux.shape[1])[None]
    patches = trunk.patches(flux, torch.ones_like(flux), wavelength)
    assert_parity(patches.flux, made.tensors["preprocessed"])
    tokens = trunk.encode(patches)
    assert_parity(tokens, made.tensors["embedding"])
    head = nn.Linear(tokens.shape[2], patches.flux.shape[2])
    head.load_state_dict({n: made.state[f"head.{n}"] for n in ("weight", "bias")})
    assert_parity(head(tokens), made.tensors["reconstructions"])


@torch.no_grad()
def test_dinov2_teacher(golden):
    made = golden("dinov2_vit_tiny")
    state = {f"backbone.{name}": tensor for name, tensor in made.state.items()}
    model = build(teacher(state, heads=made.config["num_heads"]))
    trunk, theirs, seen = model.image.trunk, made.tensors, []
    for module in (*trunk.blocks, trunk.norm):
        module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))

    def assert_tokens(picture, name, hidden=None):
        seen.clear()
        tokens = trunk(picture, picture > 9, torch.full((len(picture),), 0.262), hidden)
        assert_parity(tokens[:, 0], theirs[f"{name}x_norm_clstoken"])
        assert_parity(tokens[:, 1:], theirs[f"{name}x_norm_patchtokens"])
        return tokens

    tokens = assert_tokens(theirs["image_144"], "")
    *_, before_last, last = seen
    assert_parity(last, theirs["x_prenorm"])
    before_last = trunk.norm(before_last)
    assert_parity(before_last[:, 1:], theirs["intermediate_minus2"])
    assert_parity(before_last[:, 0], theirs["intermediate_minus2_cls"])
    assert_parity(tokens[:, 1:], theirs["intermediate_minus1"])
    assert_tokens(theirs["image_144"], "masked.", theirs["masks"])
    assert_tokens(theirs["image_60"], "im60.")
    assert_parity(trunk._learned(torch.Size([60, 60]))[None], theirs["pos_embed_60"])
    assert_tokens(theirs["image_96x72"], "im96x72.")
    images = Images.from_arrays(theirs["image_144"].clamp(0, 1).numpy(), kind="rgb")
    ours = torch.from_numpy(model.embed_images(images, device="cpu"))
    direct = trunk(theirs["image_144"].clamp(0, 1), theirs["image_144"] > 9, torch.ones(1))
    assert_parity(ours, F.normalize(direct[:, 0]))


def test_gradients_of_the_head(golden):
    made = golden("cross_attention_head_grad")
    head = AttentionPool(PoolConfig(width=48, heads=4, residual=False), 30)
    prefix = [(r"^", "head.")]

    def ours(tensors):
        return {n.removeprefix("head."): t for n, t in _renamed(tensors, prefix).items()}

    head.load_state_dict(ours(made.state))
    tokens = made.tensors["tokens"].clone().requires_grad_()
    out = head(torch.zeros(3, 0), tokens)
    assert_parity(out[:, None], made.tensors["mlp"])
    out.square().mean().backward()
    assert_parity(tokens.grad, made.tensors["grad.tokens"], 1e-4)
    gradients = {
        name.removeprefix("grad."): tensor
        for name, tensor in made.tensors.items()
        if name.startswith("grad.") and name != "grad.tokens"
    }
    expected = ours(gradients)
    assert set(expected) == {name for name, _ in head.named_parameters()}
    for name, parameter in head.named_parameters():
        assert_parity(parameter.grad, expected[name], 1e-4)


@pytest.mark.parametrize("n", ["n1", "n5", "n32"])
def test_contrastive_loss(golden, n):
    theirs = golden("clip_loss").tensors
    image, spectrum = (theirs[f"{n}.{m}"].clone().requires_grad_() for m in ("image", "spectrum"))
    loss = contrastive_loss(image, spectrum, 15.5)
    loss.backward()
    for ours, name in (
        (loss[None], "loss_15.5"),
        (image.grad, "grad_image"),
        (spectrum.grad, "grad_spectrum"),
    ):
        torch.testing.assert_close(ours, theirs[f"{n}.{name}"], rtol=1e-5, atol=1e-7)
    one = contrastive_loss(image, spectrum, 1.0)
    torch.testing.assert_close(one[None], theirs[f"{n}.loss_1"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("raw", "seen"),
    [("raw_whc", "image"), ("raw_odd_whc", "image_odd"), ("small_raw_whc", "image_crop32")],
)
def test_nanomaggies_become_what_the_image_tower_saw_in_training(golden, raw, seen):
    theirs = golden("collator").tensors
    flux = theirs[raw].permute(0, 3, 2, 1).numpy()  # the release stores [W, H, C]
    picture = prepare_picture(Images.from_arrays(flux), theirs[seen].shape[-1])
    assert_parity(picture.flux, theirs[seen])


def test_the_published_shapes_and_counts(layout):
    """370,798,358 numbers under 446 names, of which embedding needs all but four tensors' worth."""
    shapes = layout["AstroClipModel.state_dict"]
    assert len(shapes) == layout["counts"]["n_keys_total"]
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    assert sum(t.numel() for t in state.values()) == layout["counts"]["astroclip_total"]
    published = astroclip(state)
    assert sorted(published.unused) == [
        "image_encoder.backbone.cls_token",
        "image_encoder.backbone.pos_embed",
        "spectrum_encoder.backbone.head.bias",
        "spectrum_encoder.backbone.head.weight",
    ]
    left = sum(state[name].numel() for name in published.unused)
    used = sum(tensor.numel() for tensor in published.weights.values()) - 1  # the temperature
    assert used + left == layout["counts"]["astroclip_total"]
    trunk = published.config.image.trunk
    assert (trunk.width, trunk.depth, trunk.heads, trunk.size) == (1024, 24, 16, 144)
    trunk = published.config.spectrum.trunk
    assert (trunk.width, trunk.depth, trunk.heads, trunk.patch) == (768, 6, 6, 20)


@pytest.mark.parametrize("chunked", [True, False])
def test_the_published_image_trunk_alone(layout, chunked):
    shapes = {
        name.removeprefix("image_encoder.backbone."): shape
        for name, shape in layout["AstroClipModel.state_dict"].items()
        if name.startswith("image_encoder.backbone.")
    }
    if not chunked:
        shapes = {re.sub(r"blocks\.\d+\.", "blocks.", name): s for name, s in shapes.items()}
        assert set(layout["vit_block_chunks_0_keys"]) <= set(shapes)
    with torch.device("meta"):
        state = {f"backbone.{name}": torch.empty(shape) for name, shape in shapes.items()}
    published = teacher({**state, "dino_head.mlp.0.weight": torch.empty(1)})
    assert published.unused == ["dino_head.mlp.0.weight"]
    used = sum(tensor.numel() for tensor in published.weights.values()) - 1
    assert used == layout["counts"]["vit_large_p12_144"]
    assert published.config.image.trunk.heads == 16
