"""Tensors computed once and read many times, in memory-mapped files."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Int
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from torch import Tensor

from .distribution import by_first_rank


class TensorCache:
    """Named tensors of N rows on disk, of which only the rows asked for are read.

    bfloat16, which NumPy lacks, is kept as its bits in int16 under a name ending in ".bfloat16".
    """

    def __init__(self, path: str | Path):
        """Opens a complete cache."""
        files = sorted(Path(path).glob("*.npy"))
        self._arrays = {f.stem: np.load(f, mmap_mode="r", allow_pickle=False) for f in files}

    @classmethod
    def create(
        cls, path: str | Path, rows: int, batches: Iterable[dict[str, Tensor]]
    ) -> "TensorCache":
        """Writes `rows` rows, batch after batch; a complete cache at `path` is kept as it is.

        Of several ranks the first writes, and all open what it wrote.

        Raises:
            ValueError: If the batches hold another number of rows.
        """
        path = Path(path)
        by_first_rank(lambda: _create(path, rows, batches))
        return cls(path)

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def take(
        self, rows: Int[np.ndarray, "N"] | slice, names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """The tensors of these names, or all, at some rows."""
        tensors = {}
        for stem, array in self._arrays.items():
            name = stem.removesuffix(".bfloat16")
            if names is None or name in names:
                tensor = torch.from_numpy(np.array(array[rows]))
                tensors[name] = tensor if name == stem else tensor.view(torch.bfloat16)
        return tensors


def _create(path: Path, rows: int, batches: Iterable[dict[str, Tensor]]) -> None:
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write(unfinished, rows, batches)
    unfinished.rename(path)


def _write(folder: Path, rows: int, batches: Iterable[dict[str, Tensor]]) -> None:
    """Row after row: a full disk is an OSError here, to a memory map it is the end (SIGBUS)."""
    done = 0
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for batch in batches:
            for name, array in dict(_plain(n, tensor) for n, tensor in batch.items()).items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    _write_header(files[name], (rows, *array.shape[1:]), array.dtype)
                if done + len(array) > rows:
                    raise ValueError(f"{name} has more rows than the {rows} expected")
                files[name].write(array.tobytes())
            done += len(array)
    if done != rows:
        raise ValueError(f"{done} rows were computed; expected {rows}")


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    about = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    write_array_header_1_0(file, about)


def _plain(name: str, tensor: Tensor) -> tuple[str, np.ndarray]:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return f"{name}.bfloat16", tensor.view(torch.int16).numpy()
    return name, tensor.numpy()
