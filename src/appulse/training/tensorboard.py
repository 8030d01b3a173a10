"""TensorBoard's log of a run, where the package `tensorboard` is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any


def tensorboard(folder: Path, step: int) -> Any:
    """A `SummaryWriter` from a step on, hiding what was there of it; None without the package."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step)
