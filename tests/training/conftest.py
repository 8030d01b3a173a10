"""A small network, its loss and its data."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from appulse.survey.batches import BatchOrder
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder

CONFIG = TrainingConfig(steps=30, batch_size=8, warmup=5, ema=0.9, log_every=1, validate_every=10)
TARGET = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.GELU(), nn.Linear(8, 4))


def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x + 0.1 * torch.randn_like(x)) - x).square().mean()


def batches(step: int):
    order = BatchOrder(np.arange(64), 8, seed=3, start=step, epochs=None)
    return (TARGET[rows] for rows in order)


def run(path: Path, config: TrainingConfig = CONFIG, **options) -> nn.Module:
    folder = RunFolder(path, {"stage": "test"})
    return train(model(), loss, batches, config, folder, device="cpu", **options)
