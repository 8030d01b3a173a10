"""Runs that were interrupted, killed or left without room, and go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from appulse.digest import digest
from appulse.training.loop import train
from appulse.training.run import RunFolder, read_metrics

from .conftest import CONFIG, batches, loss, model, run


@pytest.mark.parametrize("stop", [1, 7, 29])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, stop):
    run(tmp_path / "whole")
    interrupted = []

    def until(m, x):
        interrupted.append(1)
        if len(interrupted) == stop:
            signal.raise_signal(signal.SIGINT)
        return loss(m, x)

    with pytest.raises(KeyboardInterrupt):
        train(
            model(),
            until,
            batches,
            CONFIG,
            RunFolder(tmp_path / "cut", {"stage": "test"}),
            device="cpu",
        )
    assert len(interrupted) == stop
    run(tmp_path / "cut")
    whole, cut = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert digest(whole) == digest(cut)
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "cut")


SLOWLY = f"""
import resource, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from dataclasses import replace
from conftest import CONFIG, batches, loss, model
from appulse.training.loop import train
from appulse.training.run import RunFolder
def slow(m, x):
    time.sleep(0.03)
    if len(sys.argv) > 2 and (Path(sys.argv[1]) / "resume.safetensors").exists():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # no room for a checkpoint
    return loss(m, x)
folder = RunFolder(sys.argv[1], {{"stage": "test"}})
train(model(), slow, batches, replace(CONFIG, save_every=0.0), folder, device="cpu")
"""


def start(*arguments) -> subprocess.Popen[str]:
    """A slow run in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", SLOWLY, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_process_killed_three_times_ends_like_an_uninterrupted_one(tmp_path):
    run(tmp_path / "whole")
    resume, reached = tmp_path / "cut" / "resume.safetensors", [0]
    while len(reached) < 4:
        process = start(tmp_path / "cut")
        while not resume.exists() or saved_step(resume) <= reached[-1]:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        time.sleep(0.1)
        process.kill()
        process.wait()
        reached.append(saved_step(resume))
    assert reached == sorted(set(reached))
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    run(tmp_path / "cut")
    whole, cut = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert digest(whole) == digest(cut)
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "cut")


def saved_step(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def test_a_disk_that_fills_up_is_reported_and_the_run_goes_on_when_there_is_room(tmp_path):
    """The kernel refuses to write more than 600 bytes of a file, once there is a checkpoint."""
    run(tmp_path / "whole")
    process = start(tmp_path / "cut", "full")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "File too large" in errors
    assert "the last whole checkpoint is kept" in errors
    names = {path.name for path in (tmp_path / "cut").iterdir()}
    assert "resume.safetensors" in names
    assert {name for name in names if name.startswith(".")} == {".lock"}
    assert 0 < saved_step(tmp_path / "cut" / "resume.safetensors") < 30
    run(tmp_path / "cut")
    whole, cut = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert digest(whole) == digest(cut)


def test_a_finished_run_is_loaded_not_repeated(tmp_path):
    def no(*_):
        raise AssertionError("trained again")

    first = run(tmp_path).state_dict()
    again = train(model(), no, no, CONFIG, RunFolder(tmp_path, {"stage": "test"}), device="cpu")
    assert digest(first) == digest(again.state_dict())
