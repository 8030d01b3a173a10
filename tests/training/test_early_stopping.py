import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from appulse.digest import digest
from appulse.survey.batches import BatchOrder
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder, read_metrics

CONFIG = TrainingConfig(
    steps=30, batch_size=8, warmup=5, log_every=100, validate_every=3, patience=3
)
TARGET = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
LOSSES = [3.0, 2.0, 4.0, float("nan"), 1.9, 2.5, 1.9, 2.1, 0.5, 0.4]  # the fifth, at step 15


def run(path: Path, config: TrainingConfig = CONFIG, losses=LOSSES, interrupt=0):
    """Validations say these losses; the weights that each saw, by its number."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 4))
    seen = {}

    def validate(m):
        number = sum("validation_loss" in line for line in read_metrics(path))
        seen[number] = digest(m.state_dict())
        if number + 1 == interrupt:
            signal.raise_signal(signal.SIGINT)
        return {"validation_loss": losses[number]}

    def batches(step):
        order = BatchOrder(np.arange(64), 8, start=step, epochs=None)
        return (TARGET[rows] for rows in order)

    def loss(m, x):
        return (m(x) - x).square().mean()

    train(model, loss, batches, config, RunFolder(path, {}), validate=validate, device="cpu")
    assert digest(model.state_dict()) == digest(load_file(path / "weights.safetensors"))
    return seen


def result(path: Path) -> str:
    return digest(load_file(path / "weights.safetensors"))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_weights_are_kept_and_a_run_without_better_ones_ends(tmp_path, ema):
    seen = run(tmp_path, replace(CONFIG, ema=ema))
    assert len(seen) == 8  # three after the best, of which none is better
    assert len(set(seen.values())) == 8
    assert result(tmp_path) == seen[4]
    assert read_metrics(tmp_path)[-1]["step"] == 24


def test_a_run_that_never_ends_early_keeps_its_best_weights_too(tmp_path):
    seen = run(tmp_path, replace(CONFIG, patience=9))
    assert len(seen) == 10
    assert result(tmp_path) == seen[9]
    seen = run(tmp_path / "worse", replace(CONFIG, patience=9), sorted(LOSSES[4:] * 2))
    assert result(tmp_path / "worse") == seen[0]


def test_without_patience_the_last_weights_count(tmp_path):
    seen = run(tmp_path, replace(CONFIG, patience=None), [1.0] * 5 + [2.0] * 5)
    assert len(seen) == 10
    assert result(tmp_path) == seen[9]


@pytest.mark.parametrize("interrupt", [1, 5, 6, 8])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, interrupt):
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", interrupt=interrupt)
    seen = run(tmp_path / "cut")
    assert len(seen) == 8 - interrupt
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
    assert str(read_metrics(tmp_path / "cut")) == str(read_metrics(tmp_path / "whole"))  # one NaN


def test_a_validation_without_the_measure_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs a validation_loss; got \['score'\]"):
        train(
            nn.Linear(4, 4),
            lambda m, x: m(x).square().mean(),
            lambda step: iter([TARGET] * 30),
            CONFIG,
            RunFolder(tmp_path, {}),
            validate=lambda m: {"score": 1.0},
            device="cpu",
        )
