"""Nothing in any file runs, and no damage goes unnoticed."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import appulse
from appulse.align import checkpoint
from appulse.align.checkpoint import StandIn, read_checkpoint

from .conftest import absent_packages


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
