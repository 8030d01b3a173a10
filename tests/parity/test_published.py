"""Published files are read whole, and what does not fit is named."""

import pickle

import pytest
import torch
import torch.nn.functional as F

import appulse
from appulse.align.convert import convert
from appulse.align.published import build, read_published, teacher
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra

from .conftest import HEADS, assert_parity, made_from_its_key, write_astroclip


def test_a_published_file_gives_its_numbers(published, golden):
    theirs = golden("astroclip_tiny").tensors
    model = appulse.load(published)
    images = Images.from_arrays(theirs["image_rgb"].numpy(), kind="rgb")
    spectra = Spectra.from_arrays(theirs["spectrum"][..., 0].numpy())
    image = torch.from_numpy(model.embed_images(images, device="cpu"))
    spectrum = torch.from_numpy(model.embed_spectra(spectra, device="cpu"))
    assert_parity(image, F.normalize(theirs["image_embedding"]))
    assert_parity(spectrum, F.normalize(theirs["spectrum_embedding"]))
    assert not model.simulations_only
    with pytest.raises(ValueError, match="this model has no shift dictionary"):
        model.redshift(spectra)


def test_the_file_tells_its_numbers_of_heads_where_torch_alone_refuses_it(published):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(published, weights_only=True)
    with pytest.raises(ModuleNotFoundError):
        torch.load(published, weights_only=False)
    config = read_published(published).config
    assert config.image.trunk.heads == 3
    assert config.spectrum.trunk.heads == config.image.head.heads == 4


def test_specformer_alone(golden, tmp_path):
    made = golden("specformer_stdclip")
    path = tmp_path / "specformer.ckpt"
    torch.save({"state_dict": made.state, "hyper_parameters": made.config}, path)
    model = appulse.load(path)
    trunk = model.spectrum.trunk
    flux = made.tensors["spectrum"][..., 0]
    tokens = trunk(flux, torch.ones_like(flux), torch.linspace(3600, 4000, 300)[None])
    assert_parity(tokens, made.tensors["embedding"])
    assert_parity(model.spectrum.head(torch.zeros(4, 0), tokens), tokens.mean(1))
    with pytest.raises(ValueError, match="this model has no image tower; it has spectrum"):
        model.embed_images(torch.zeros(1, 3, 144, 144).numpy())
    with pytest.raises(ValueError, match="pools without attention"):
        model.attention(Spectra.from_arrays(torch.rand(1, 7781).numpy()))


def test_a_teacher_alone(layout, tmp_path):
    """Narrow ones have no rule for their heads: DINOv2's have 64 channels each."""
    prefix = "image_encoder.backbone."
    shapes = {
        f"module.backbone.{name.removeprefix(prefix)}": [64 * s // 1024 or s for s in shape]
        for name, shape in layout["AstroClipModel.state_dict"].items()
        if name.startswith(prefix)
    }
    shapes["module.backbone.pos_embed"][1] = 145
    state = {name: made_from_its_key(name, shape) for name, shape in shapes.items()}
    torch.save({"teacher": {**state, "dino_head.mlp.0.weight": torch.ones(2)}}, tmp_path / "t.pth")
    model, pictures = appulse.load(tmp_path / "t.pth"), torch.rand(2, 3, 144, 144)
    direct = build(teacher(state)).image.trunk(pictures, pictures > 2, torch.ones(2))
    found = model.embed_images(Images.from_arrays(pictures.numpy(), kind="rgb"), device="cpu")
    assert_parity(torch.from_numpy(found), F.normalize(direct[:, 0]))
    narrow = {name: tensor[..., :48] for name, tensor in state.items()}
    torch.save({"teacher": narrow}, tmp_path / "narrow.pth")
    with pytest.raises(ValueError, match="width 48 is not a multiple of 64"):
        appulse.load(tmp_path / "narrow.pth")


BACKBONE = "image_encoder.backbone."


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("patch_embed.proj.weight", (400_000, 0), r"is torch.float32.*of shape \(400000, 0\)"),
        (
            "patch_embed.proj.weight",
            (48, 12, 12, 3),
            r"\(48, 12, 12, 3\); expected \(48, 3, 12, 12\)",
        ),
        ("pos_embed", (1, 400_000, 48), r"shape \(1, 400000, 48\); expected \(1, 399425, 48\)"),
        ("pos_embed", (145, 1, 48), r"has shape \(145, 1, 48\); expected \(1, 1, 48\)"),
    ],
)
def test_a_size_is_told_by_a_whole_shape(state, tmp_path, name, shape, message):
    state[BACKBONE + name] = torch.zeros(shape)
    torch.save({"state_dict": state}, tmp_path / "sizes.ckpt")
    with pytest.raises(ValueError, match=f"tensor {BACKBONE}{name} .*{message}"):
        appulse.load(tmp_path / "sizes.ckpt")


def test_sizes_are_believed_of_a_file_that_can_hold_them(tmp_path):
    """Matrices of this width would take terabytes; the file has none."""
    width, block = 640_000, "backbone.blocks.0.norm1.weight"
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 2, width)}
    shapes["patch_embed.proj.weight"] = (width, 3, 1, 1)
    state = {f"backbone.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save({"teacher": {**state, block: torch.ones(1)}}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"width 640000 need 6,553,600,000,000 bytes; its"):
        appulse.load(tmp_path / "wide.pth")


def test_slices_start_one_after_the_other(golden, tmp_path):
    hyper = {"slice_section_length": 20, "slice_overlap": 20}
    content = {"state_dict": golden("specformer_stdclip").state, "hyper_parameters": hyper}
    torch.save(content, tmp_path / "still.ckpt")
    with pytest.raises(ValueError, match=r"still.ckpt: slices start every 0 pixels"):
        appulse.load(tmp_path / "still.ckpt")


def test_a_conversion_writes_over_nobodys_readme(published, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README.md is not of a converted model; choose another"):
        convert(published, out)
    assert [path.name for path in out.iterdir()] == ["README.md"]
    (out / "README.md").unlink()
    for _ in range(2):
        assert convert(published, out).name == "AstroCLIP"
    assert "AstroCLIP, converted by appulse" in (out / "README.md").read_text()


def changed(state, how):
    """A state with one fault, and what the message must say."""
    name = "spectrum_encoder.backbone.blocks.0.mlp.encoder.weight"
    ours = "towers.spectrum.trunk.blocks.0.mlp.0.weight"
    if how == "missing":
        return {n: t for n, t in state.items() if n != name}, f"{ours}: found nothing, expected"
    if how == "extra":
        return {**state, "image_encoder.more": torch.ones(2)}, "found .2,., expected nothing"
    if how == "transposed":
        return {**state, name: state[name].T.contiguous()}, rf"{ours}: found \(32, 128\), expected"
    if how == "no size":
        del state["image_encoder.backbone.pos_embed"]
        return state, r"expected a tensor image_encoder.backbone.pos_embed of 3 axes, found no"
    return {**state, name: state[name].int()}, r"is torch.int32, .*expected stored floating"


@pytest.mark.parametrize("how", ["missing", "extra", "transposed", "no size", "integers"])
def test_what_does_not_fit_is_named(state, tmp_path, how):
    faulty, message = changed(state, how)
    path = write_astroclip(tmp_path / "faulty.ckpt", faulty, HEADS)
    with pytest.raises(ValueError, match=f"faulty.ckpt: .*{message}"):
        appulse.load(path)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"conv1.weight": torch.ones(3)}},
        {"conv1.weight": torch.ones(3)},
        {"state_dict": {5: torch.ones(3)}},
        {"state_dict": torch.ones(3)},
        {},
    ],
)
def test_other_models_checkpoints_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "resnet.ckpt")
    with pytest.raises(ValueError, match=r"no published layout: found (conv1.weight|nothing|5|s)"):
        appulse.load(tmp_path / "resnet.ckpt")


def test_half_precision_is_used_with_a_warning(state, tmp_path):
    half = {name: tensor.half() for name, tensor in state.items()}
    path = write_astroclip(tmp_path / "half.ckpt", half, HEADS)
    with pytest.warns(UserWarning, match="weights are torch.float16; they are used as float32"):
        model = appulse.load(path)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_names_that_are_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"is a URL; download the file"):
        appulse.load("https://huggingface.co/polymathic-ai/astroclip/resolve/main/astroclip.ckpt")
    with pytest.raises(FileNotFoundError, match=r"there is no .*absent.ckpt; expected"):
        appulse.load(tmp_path / "absent.ckpt")
    with pytest.raises(ValueError, match="is not a run folder"):
        appulse.load(tmp_path)
