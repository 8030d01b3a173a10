"""Two ranks that each hold a part of the model, and one that goes on with what they saved."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from appulse.digest import digest
from appulse.survey.batches import BatchOrder
from appulse.training.distribution import rank
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder, read_metrics

CONFIG = TrainingConfig(
    steps=12,
    batch_size=16,
    accumulate=2,
    warmup=3,
    clip=0.05,
    ema=0.9,
    log_every=1,
    validate_every=4,
    patience=9,
    sharding="shard",
)
ROWS = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Blocks(nn.Module):
    """Sizes that two ranks cannot share evenly, a locked block, and weights outside of blocks."""

    count: torch.Tensor

    def __init__(self):
        super().__init__()
        torch.manual_seed(rank())  # the first rank's weights are everybody's
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.GELU()) for _ in range(3))
        self.blocks[1].requires_grad_(False)
        self.dropout, self.last = nn.Dropout(0.3), nn.Linear(5, 5)
        self.gain = nn.Parameter(torch.zeros(1))
        self.register_buffer("count", torch.zeros(()))
        self.double()

    def reconstruct(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(self.dropout(x)) * self.gain.exp()


def exact(model, x):
    return error(model.eval(), x)


def noisy(model, x):
    model.count += 1
    return error(model, x)


def error(model, x):
    return (model.reconstruct(model.reconstruct(x)) - x).square().mean()


def validation_loss(model):
    return {"validation_loss": (model.reconstruct(ROWS) - ROWS).square().mean().item()}


def run(path, loss=exact, config=CONFIG, validate=validation_loss):
    def batches(step):
        order = BatchOrder(np.arange(64), **config.order(step))
        return (ROWS[rows] for rows in order)

    return train(
        Blocks(), loss, batches, config, RunFolder(path, {}), device="cpu", validate=validate
    )


def until(loss, step):
    """A loss that interrupts one rank in a step."""
    calls = []

    def interrupting(model, x):
        calls.append(1)
        if rank() == 0 and len(calls) == 2 * step - 1:
            signal.raise_signal(signal.SIGINT)
        return loss(model, x)

    return interrupting


def stopped(path, loss, step):
    with pytest.raises(KeyboardInterrupt):
        run(path, until(loss, step))


def steep(step):
    """A finite loss, whose gradient is NaN on one rank, in one piece of a step."""
    calls = []

    def loss(model, x):
        calls.append(1)
        slope = rank() == 1 and len(calls) == 2 * step - 1
        return exact(model, x) + ((0 * model.gain).sqrt().sum() if slope else 0)

    return loss


IMPORTS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sharding import *
from appulse.training.distribution import join_ranks
out = Path(sys.argv[1])
"""

TWO_RANKS = f"""
{IMPORTS}
join_ranks()
model = run(out / "exact")
held = sum(p.to_local().numel() for p in model.parameters())
(out / f"rank{{rank()}}").write_text(str(held))
run(out / "noisy", noisy)
stopped(out / "cut", noisy, 6)
run(out / "cut", noisy)
stopped(out / "two-then-one", exact, 5)
run(out / "one-then-two")
best = iter([3.0, 1.0, 2.0])
validate = lambda m: {{"validation_loss": next(best)}}
run(out / "best", config=replace(CONFIG, ema=None), validate=validate)
for sharding in ("shard", "replicate"):
    with pytest.raises(FloatingPointError, match="norm of the gradient is nan at step 2"):
        run(out / sharding, steep(3), config=replace(CONFIG, sharding=sharding))
    (out / f"{{sharding}}{{rank()}}").touch()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.fixture
def two(folder, torchrun):
    """Where two ranks left what they did, once for all tests."""
    if not (folder / "rank0").exists():
        stopped(folder / "one-then-two", exact, 7)
        process = torchrun(TWO_RANKS, folder)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return folder


def assert_same(path, other, rtol=1e-8):
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (path, other))
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=rtol, atol=1e-10)
    for ours, theirs in zip(read_metrics(path), read_metrics(other), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-8)


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """One process on whole batches, nothing in pieces or shards."""
    path = tmp_path_factory.mktemp("joint")
    run(path, config=replace(CONFIG, accumulate=1, sharding="replicate"))
    return path


def test_shards_train_as_one_process_on_whole_batches(two, joint):
    assert_same(two / "exact", joint)


def test_each_rank_holds_a_part(two):
    held = [int((two / f"rank{i}").read_text()) for i in (0, 1)]
    whole = sum(p.numel() for p in Blocks().parameters())
    assert sum(held) == whole
    assert min(held) > whole / 3


def test_an_interrupted_run_in_shards_ends_like_an_uninterrupted_one(two):
    assert digest(load_file(two / "noisy" / "weights.safetensors")) == digest(
        load_file(two / "cut" / "weights.safetensors")
    )
    assert read_metrics(two / "noisy") == read_metrics(two / "cut")
    assert not list((two / "cut").glob("*resume*"))


def test_another_number_of_ranks_goes_on(two, joint):
    files = {path.name for path in (two / "two-then-one" / "resume-5").iterdir()}
    assert files == {f"shard-0000{i}-model-00001-of-00001.safetensors" for i in (1, 2)}
    run(two / "two-then-one")
    assert_same(two / "two-then-one", joint)
    assert_same(two / "one-then-two", joint)


def test_the_best_weights_are_kept_in_shards(two, tmp_path):
    best = iter([3.0, 1.0, 2.0])
    config = replace(CONFIG, ema=None, sharding="replicate")
    run(tmp_path, config=config, validate=lambda m: {"validation_loss": next(best)})
    assert_same(two / "best", tmp_path)


def test_a_gradient_that_is_not_finite_on_one_rank_stops_all(two):
    for sharding in ("shard", "replicate"):
        assert all((two / f"{sharding}{i}").exists() for i in (0, 1))


SLOWLY = f"""
{IMPORTS}
import resource
def slow(model, x):
    time.sleep(0.03)
    if len(sys.argv) > 2 and rank() == 1 and list(out.glob("resume-*")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # no room on one of two disks
    return noisy(model, x)
join_ranks()
(out.parent / f"pid{{rank()}}").write_text(str(os.getpid()))
run(out, slow, replace(CONFIG, save_every=0.0))
"""


def test_a_kill_leaves_the_last_whole_checkpoint(two, torchrun, tmp_path):
    process = torchrun(SLOWLY, tmp_path / "cut")
    while not list((tmp_path / "cut").glob("resume-*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.1)
    for i in (0, 1):
        os.kill(int((tmp_path / f"pid{i}").read_text()), signal.SIGKILL)
    process.communicate(timeout=300)
    assert list((tmp_path / "cut").glob("resume-*"))
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    process = torchrun(SLOWLY, tmp_path / "cut")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same(tmp_path / "cut", two / "noisy", rtol=0)


def test_a_rank_without_room_is_reported_and_the_last_checkpoint_stays(torchrun, tmp_path):
    process = torchrun(SLOWLY, tmp_path / "cut", "full")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "File too large; the last whole checkpoint is kept" in errors
    assert len(list((tmp_path / "cut").glob("resume-*"))) == 1
    assert [path.name for path in (tmp_path / "cut").glob(".*")] == [".lock"]
