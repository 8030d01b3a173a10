"""What a run folder holds, and what becomes of it after kills, damage and refused starts."""

import json
import os
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from appulse.spectrum.redshift import DICTIONARY
from appulse.spectrum.rest import REST
from appulse.training import run as run_module
from appulse.training.loop import TrainingConfig
from appulse.training.run import (
    PREPARED,
    RunFolder,
    read_config,
    read_metrics,
    save_tensors,
)

CONFIG = TrainingConfig(steps=30, batch_size=8)
TENSORS = {"x": torch.arange(3.0)}


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_whoever_may_read_the_configuration_may_read_the_weights(tmp_path, umask):
    before = os.umask(umask)
    try:
        RunFolder(tmp_path, {}).finish(TENSORS)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert modes == {0o666 & ~umask}


def test_a_run_that_another_process_is_at_is_refused(tmp_path):
    RunFolder(tmp_path, {}).save(TENSORS, 3)
    half = tmp_path / ".resume.0123abcd.safetensors"
    half.write_text("the other process is writing it")
    other = FileLock(tmp_path / ".lock")  # as if of another process
    with other, pytest.raises(ValueError, match=f"another process is at work in {tmp_path}"):
        RunFolder(tmp_path, {})
    assert half.exists()
    assert RunFolder(tmp_path, {}).load()[1] == 3
    assert not half.exists()


def test_what_kills_left_goes_when_the_run_goes_on(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.log(7, loss=0.5)
    folder.save(TENSORS, 7)
    kept = [name for name in names(tmp_path) if name != "tensorboard"]
    for stem, suffix in [("resume", "safetensors"), ("config", "json"), ("rest", "safetensors")]:
        (tmp_path / f".{stem}.0123abcd.{suffix}").write_text("half")
    (tmp_path / ".resume-30").mkdir()
    (tmp_path / ".resume-30" / "shard").write_text("half")
    (tmp_path / ".resume.mine.safetensors").write_text("of no run folder")
    tensors, step = RunFolder(tmp_path, {}).load()
    assert step == 7
    torch.testing.assert_close(tensors, TENSORS)
    assert [n for n in names(tmp_path) if n != "tensorboard"] == [".resume.mine.safetensors", *kept]


def test_a_finished_run_keeps_no_state_to_resume_from(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.finish(TENSORS)
    finished = names(tmp_path)
    folder.save(TENSORS, 7)
    (tmp_path / "resume-7").mkdir()
    assert RunFolder(tmp_path, {}).finished
    assert names(tmp_path) == finished


def test_a_start_that_taught_nothing_gives_way_to_another_configuration(tmp_path):
    assert {DICTIONARY, REST} < set(PREPARED)
    RunFolder(tmp_path, {"training": {"batch_size": 512}})
    save_tensors(tmp_path / DICTIONARY, TENSORS)
    (tmp_path / "cache" / "validation").mkdir(parents=True)
    RunFolder(tmp_path, {"training": {"batch_size": 512}})
    assert {DICTIONARY, "cache"} < set(names(tmp_path))  # the same start goes on with them
    RunFolder(tmp_path, {"training": {"batch_size": 64}})
    assert read_config(tmp_path) == {"training": {"batch_size": 64}}
    assert names(tmp_path) == ["about.json", "config.json"]


@pytest.mark.parametrize(
    "made", ["metrics.jsonl", "resume.safetensors", "resume-3", "weights.safetensors", "README.md"]
)
def test_a_run_that_learned_does_not(tmp_path, made):
    RunFolder(tmp_path, {"steps": 1})
    (tmp_path / made).touch()
    with pytest.raises(ValueError, match="steps: 1, not 2"):
        RunFolder(tmp_path, {"steps": 2})
    assert read_config(tmp_path) == {"steps": 1}


def test_a_folder_of_something_else_does_not(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="model_type: bert, not None"):
        RunFolder(tmp_path, {"steps": 2})


def test_surveys_that_a_run_did_not_note_are_no_other_configuration(tmp_path):
    RunFolder(tmp_path, {"steps": 1}).finish(TENSORS)
    assert RunFolder(tmp_path, {"steps": 1, "trained_on": ["desi"]}).finished


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_damaged_checkpoint_is_named(tmp_path, keep):
    folder = RunFolder(tmp_path, {})
    folder.save(TENSORS, 7)
    path = tmp_path / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"resume.safetensors is damaged: .*delete it to start"):
        folder.load()
    save_tensors(path, TENSORS)  # of no step
    with pytest.raises(ValueError, match=r"resume.safetensors is damaged"):
        folder.load()
    torch.testing.assert_close(load_file(path), TENSORS)


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_a_configuration_is_an_object(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json holds a \w+; expected the settings"):
        read_config(tmp_path)


def test_another_configuration_is_refused(tmp_path):
    RunFolder(tmp_path, {"model": {"width": 3, "depth": 1}}).log(1, loss=0.5)
    with pytest.raises(ValueError, match=r"model\.width: 3, not 4"):
        RunFolder(tmp_path, {"model": {"width": 4, "depth": 1}})


def test_how_often_to_save_may_change(tmp_path):
    config = {"stage": "test", "training": asdict(CONFIG)}
    RunFolder(tmp_path, config).log(1, loss=0.5)
    RunFolder(tmp_path, {**config, "training": asdict(replace(CONFIG, save_every=9.0))})
    with pytest.raises(ValueError, match=r"training\.seed: 0, not 1\)"):
        RunFolder(tmp_path, {**config, "training": asdict(replace(CONFIG, seed=1, save_every=9.0))})


def test_a_line_cut_short_is_left_out(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.log(step=1, loss=2.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "loss": 1.0})[:-4])
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {})
    folder.save({"x": torch.ones(3)}, 5)

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "save_file", full)
    with pytest.raises(OSError, match=r"No space left.*the last whole checkpoint is kept"):
        folder.save({"x": torch.zeros(3)}, 6)
    tensors, step = folder.load()
    assert step == 5
    assert tensors["x"].tolist() == [1, 1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".lock",
        "about.json",
        "config.json",
        "metrics.jsonl",
        "resume.safetensors",
    ]
