"""Work that two processes share; in a file that the second can import."""

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info

from appulse.evaluate.protocol import Predictions
from appulse.evaluate.rows import Method, Rows

GALAXIES = {"survey": {"rows": 3}}
SEEDS = range(12)


def method(able: int | None = None) -> Method:
    """Says by which process a row is, and with how many threads; perhaps only one is able to."""
    return Method("m", partial(_told, able), seeds=SEEDS)


def _told(able: int | None, seed: int) -> list[Predictions]:
    time.sleep(0.1)
    if able not in (None, os.getpid()):
        raise RuntimeError("this process can not")
    most = max(library["num_threads"] for library in threadpool_info())
    values = {"process": np.array([os.getpid(), torch.get_num_threads(), most])}
    return [Predictions("m", "image", values, 1)]


def make(folder: Path, able: int | None = None) -> None:
    """All rows, once two processes are here."""
    (folder / f"{os.getpid()}.here").touch()
    start = time.monotonic()
    while len(list(folder.glob("*.here"))) < 2:
        assert time.monotonic() < start + 120, "the other process has not come"
        time.sleep(0.01)
    Rows(folder, GALAXIES).make([method(able)])
