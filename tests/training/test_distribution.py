"""Two ranks, for real: torchrun starts two processes that talk over gloo."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from appulse.digest import digest
from appulse.survey.batches import BatchOrder
from appulse.training import distribution
from appulse.training.distribution import anywhere, by_first_rank, rank, ranks, total
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder, read_metrics

CONFIG = TrainingConfig(
    steps=12, batch_size=16, accumulate=2, warmup=3, clip=0.5, ema=0.9, log_every=1
)
ROWS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def model() -> nn.Module:
    torch.manual_seed(rank())  # the first rank's weights are everybody's
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 4)).double()


def exact(model, x):
    return (model.eval()(x) - x).square().mean()


def noisy(model, x):
    return (model(x) - x).square().mean()


def run(path, loss, config=CONFIG, **options):
    def batches(step):
        order = BatchOrder(np.arange(64), **config.order(step))
        return (ROWS[rows] for rows in order)

    return train(model(), loss, batches, config, RunFolder(path, {}), device="cpu", **options)


TWO_RANKS = f"""
import os, signal, sys, time
from appulse.training import run as run_module
from appulse.training.cache import TensorCache
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distribution import *
out, save = Path(sys.argv[1]), run_module.save_tensors
def slowly(*arguments):
    time.sleep(0.3)  # a rank that did not wait would see nothing yet
    save(*arguments)
run_module.save_tensors = slowly
distribution.join_ranks()
(out / f"rank{{rank()}}").mkdir()
result = run(out / "exact", exact)
assert (out / "exact" / "weights.safetensors").exists()  # on both ranks at once
(out / f"rank{{rank()}}" / digest(result.state_dict())).touch()

run(out / "whole", noisy)
calls = []
def until(m, x):
    calls.append(1)
    if rank() == 1 and len(calls) == 9:  # in the fifth step
        signal.raise_signal(signal.SIGINT)
    return noisy(m, x)
try:
    run(out / "cut", until)
except KeyboardInterrupt:
    assert len(calls) == 10
    assert (out / "cut" / "resume.safetensors").exists()
    (out / f"rank{{rank()}}" / "interrupted").touch()
run(out / "cut", noisy)

draws = []
def drawn(m, x):
    draws.append(torch.rand(()).item())
    return noisy(m, x)
run(out / "draws", drawn, replace(CONFIG, steps=3))
(out / f"rank{{rank()}}" / "draws").write_text(" ".join(map(str, draws)))

def rows():
    assert rank() == 0
    yield {{"x": torch.arange(3)}}
assert len(TensorCache.create(out / "cache", 3, rows())) == 3
assert anywhere(rank() == 1, rank() == 0, False) == [True, True, False]
assert total(torch.tensor(rank() + 1.0)) == 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture
def two(folder, torchrun):
    """Where two ranks left what they did, once for all tests."""
    if not (folder / "rank0").exists():
        process = torchrun(TWO_RANKS, folder)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return folder


def test_two_ranks_in_pieces_train_as_one_process_on_whole_batches(two, tmp_path):
    joint = run(tmp_path, exact, replace(CONFIG, accumulate=1)).state_dict()
    ranks = load_file(two / "exact" / "weights.safetensors")
    for name, tensor in joint.items():
        torch.testing.assert_close(ranks[name], tensor, rtol=1e-8, atol=1e-10)
    lines = zip(read_metrics(two / "exact"), read_metrics(tmp_path), strict=True)
    for ours, theirs in lines:
        assert ours == pytest.approx(theirs, rel=1e-8)


def test_all_ranks_end_with_the_same_weights(two):
    names = [[p.name for p in (two / f"rank{i}").iterdir() if len(p.name) == 16] for i in (0, 1)]
    assert names[0] == names[1] == [digest(load_file(two / "exact" / "weights.safetensors"))]


def test_an_interrupt_of_any_rank_stops_all_and_nothing_is_lost(two):
    assert all((two / f"rank{i}" / "interrupted").exists() for i in (0, 1))
    whole, cut = (load_file(two / name / "weights.safetensors") for name in ("whole", "cut"))
    assert digest(whole) == digest(cut)
    assert read_metrics(two / "whole") == read_metrics(two / "cut")
    assert [line["step"] for line in read_metrics(two / "cut")] == list(range(1, 13))


def test_no_two_ranks_or_steps_draw_the_same(two):
    draws = [draw for i in (0, 1) for draw in (two / f"rank{i}" / "draws").read_text().split()]
    assert len(draws) == 12
    assert len(set(draws)) == 12


def test_alone_a_process_is_the_first_of_one():
    distribution.join_ranks()
    assert (rank(), ranks()) == (0, 1)
    done = []
    by_first_rank(lambda: done.append(1))
    assert done == [1]
    x = torch.ones(3, requires_grad=True)
    assert total(x) is x
    assert anywhere(True, False) == [True, False]
