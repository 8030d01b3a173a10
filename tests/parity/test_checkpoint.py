"""Published files are read whole, and nothing in any file runs."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import appulse
from appulse.align import checkpoint
from appulse.align.checkpoint import StandIn, read_checkpoint
from appulse.align.convert import convert
from appulse.align.published import Heads, build, read_published, teacher
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra

from .conftest import absent_packages, assert_parity, made_from_its_key, write_astroclip

HEADS = Heads(image=3, spectrum=4, pool=4)  # of the tiny model


@pytest.fixture
def state(golden):
    return golden("astroclip_tiny").state


@pytest.fixture
def published(state, tmp_path):
    return write_astroclip(tmp_path / "astroclip.ckpt", state, HEADS)


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


class Opens:
    """Leaves a file behind if it is ever unpickled as pickle does."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


class Calls(Opens):
    """The same through os.system."""

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


class Evaluates(Opens):
    def __reduce__(self):
        return eval, (f"open({str(self.trace)!r}, 'w')",)


def hostile_files(state, attack):
    """Checkpoints in which the attack hides, one place after another."""
    yield {"state_dict": attack}
    yield {"state_dict": {**state, "attack": attack}}
    yield {"state_dict": state, "hyper_parameters": {"image_encoder": attack}}
    yield {"state_dict": state, "callbacks": {"ModelCheckpoint": [attack]}}
    yield {"state_dict": state, "optimizer_states": [({}, attack)]}
    yield {"teacher": {"backbone.cls_token": attack}}
    yield [attack]
    yield attack


@pytest.mark.parametrize("kind", [Opens, Calls, Evaluates])
@pytest.mark.parametrize("place", range(8))
def test_no_attack_runs_wherever_it_hides(state, tmp_path, kind, place):
    trace, path = tmp_path / "trace", tmp_path / "hostile.ckpt"
    content = list(hostile_files(state, kind(trace)))[place]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"which could run code; .*do not trust this file"):
        appulse.load(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the attack is real
    assert trace.exists()


def test_an_attack_through_an_absent_class_builds_nothing(state, tmp_path):
    """Even `__setstate__` and `__reduce__` of a class that is importable here are not called."""
    trace, path = tmp_path / "trace", tmp_path / "hostile.ckpt"
    with absent_packages() as a_class:
        kind = a_class("astroclip.modules.Trap")
        kind.__setstate__ = lambda self, _: trace.touch()
        kind.__reduce__ = lambda self: (kind, (), {"num_heads": 3})
        torch.save({"state_dict": state, "hyper_parameters": {"image_encoder": kind()}}, path)
        torch.load(path, weights_only=False)
        assert trace.exists()
        trace.unlink()
        found = read_checkpoint(path)["hyper_parameters"]["image_encoder"]
    assert found.find("num_heads") == 3
    assert not trace.exists()


def test_newer_pickles_and_plain_pickles_are_refused(state, tmp_path):
    torch.save(
        {"state_dict": state, "x": Opens(tmp_path / "trace")},
        tmp_path / "4.ckpt",
        pickle_protocol=4,
    )
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Opens(tmp_path / "trace")))
    torch.save(state, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name, message in (
        ("4.ckpt", "is damaged|could run code"),
        ("plain.ckpt", "is no torch checkpoint"),
        ("old.ckpt", "is no torch checkpoint"),
    ):
        with pytest.raises(ValueError, match=message):
            appulse.load(tmp_path / name)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(published, keep):
    published.write_bytes(published.read_bytes()[: int(keep * published.stat().st_size)])
    with pytest.raises(ValueError, match=r"is no torch checkpoint .* or is cut short"):
        appulse.load(published)


def test_damage_inside_is_noticed(published):
    content = bytearray(published.read_bytes())
    with zipfile.ZipFile(published) as archive:
        tensor = max(archive.infolist(), key=lambda member: member.file_size)
    content[tensor.header_offset + 300] ^= 0xFF
    published.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        appulse.load(published)


@given(st.data())
def test_any_damage_of_the_pickle_is_an_error_or_harmless(data):
    """Checksums are right here: whoever wrote the file meant it."""
    written = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(3)}, "x": [1, "two", (3.0, None)]}, written)
    with TemporaryDirectory() as folder, zipfile.ZipFile(written) as archive:
        path = Path(folder) / "damaged.ckpt"
        with zipfile.ZipFile(path, "w") as damaged:
            for name in archive.namelist():
                content = bytearray(archive.read(name))
                if name.endswith("data.pkl"):
                    place = data.draw(st.integers(0, len(content) - 1))
                    content[place] = data.draw(st.integers(0, 255))
                damaged.writestr(name, bytes(content))
        with contextlib.suppress(ValueError):
            assert isinstance(read_checkpoint(path), dict)


def test_bombs_are_not_unpacked(published, tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(published) as archive, zipfile.ZipFile(bomb, "w") as packed:
        for member in archive.infolist():
            packed.writestr(member, archive.read(member), zipfile.ZIP_DEFLATED)
        packed.writestr("archive/data/999", bytes(2**24), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"unpacks to .*; expected no more than the file's own"):
        appulse.load(bomb)
    monkeypatch.setattr(checkpoint, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"and 1,000 \(appulse.align.checkpoint.LIMIT\)"):
        appulse.load(published)
    monkeypatch.setattr(checkpoint, "PICKLE_LIMIT", 10)
    monkeypatch.setattr(checkpoint, "LIMIT", 2**30)
    with pytest.raises(ValueError, match="expected one of at most 10"):
        appulse.load(published)


def test_tensors_must_store_what_they_claim(state, tmp_path):
    name = "spectrum_encoder.backbone.position_embed.weight"
    state[name] = torch.zeros(1, 32).expand(10**9, 32)
    torch.save({"state_dict": state}, tmp_path / "wide.ckpt")
    with pytest.raises(ValueError, match=r"position_embed.weight is .*expected stored"):
        appulse.load(tmp_path / "wide.ckpt")


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


def holding(modules, **attributes):
    module = StandIn()
    module.__setstate__({"_modules": modules, **attributes})
    return module


def test_modules_are_looked_into_once_however_they_nest():
    first, second = holding({}, num_heads=1), holding({}, num_heads=2, other=3)
    tree = holding({"a": holding({"deep": first}), "b": second})
    assert (tree.find("num_heads"), tree.find("other"), tree.find("absent")) == (1, 3, None)
    deep = holding({})
    for _ in range(10_000):
        deep = holding({"a": deep, "b": deep})
    assert deep.find("num_heads") is None
    itself = holding({})
    itself.attributes["_modules"]["itself"] = itself
    assert itself.find("num_heads") is None


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"XX", "is damaged: .*download it again"),  # the signature
        (8, b"\x01\x00", "is damaged: .*encrypted"),
        (10, b"\x63\x00", "holds packed members"),  # by a method that nobody knows
    ],
)
def test_archives_that_cannot_be_read_are_refused(published, place, value, message):
    content = bytearray(published.read_bytes())
    start = content.index(b"PK\x01\x02") + place  # in the first entry of the directory
    content[start : start + 2] = value
    published.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        appulse.load(published)


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
