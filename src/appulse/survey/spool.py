"""Pixels set aside on disk, so that rows can be had in another order than they were read in."""

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from .images import Images
from .rows import as_index
from .spectra import Spectra

Part = TypeVar("Part", Images, Spectra)


class Spool(Generic[Part]):
    """Images of one size and kind, or spectra, of which memory holds names and places only.

    Takes 5 bytes for each pixel of an image, 17 for each of a spectrum.

    Attributes:
        ids: Names, shape (N,).
        ra, dec: ICRS degrees, NaN where unknown.
    """

    def __init__(self, folder: Path, parts: Iterable[Part]):
        """Writes the pixels of all rows to files in a new folder.

        Raises:
            ValueError: If there are no parts, or images differ in size or kind.
            OSError: If the disk is full.
        """
        stream = iter(parts)
        first = next(stream, None)
        if first is None:
            raise ValueError("nothing to set aside: no rows were read")
        folder.mkdir()
        self._folder = folder
        self._like: Part = first[:1]
        columns: dict[str, list[np.ndarray]] = {}
        for part in chain([first], stream):
            part.concatenate([self._like, part[:1]])  # raises if they do not go together
            for name, values in _arrays(part).items():
                if values.ndim == 1:
                    columns.setdefault(name, []).append(values)
                else:
                    self._append(name, values)
        self._columns = {name: np.concatenate(values) for name, values in columns.items()}
        self.ids, self.ra, self.dec = (self._columns[name] for name in ("ids", "ra", "dec"))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Part:
        """The rows named by a slice, an index or an array."""
        index, like = as_index(rows, len(self)), _arrays(self._like)
        arrays: dict[str, Any] = {n: np.array(self._column(n, a)[index]) for n, a in like.items()}
        return replace(self._like, **arrays)

    def _column(self, name: str, like: np.ndarray) -> np.ndarray:
        """All rows of a field; pixels as a map, opened anew: pages once read stay in one."""
        if name in self._columns:
            return self._columns[name]
        shape = (len(self), *like.shape[1:])
        return np.memmap(self._folder / name, like.dtype, "r", shape=shape)

    def _append(self, name: str, values: np.ndarray) -> None:
        path = self._folder / name
        try:
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(values).data)
        except OSError as error:
            raise OSError(f"could not write to {path}: {error}; make room") from error


def _arrays(part: Images | Spectra) -> dict[str, np.ndarray]:
    """Fields with an entry for each row."""
    named = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: values for name, values in named.items() if isinstance(values, np.ndarray)}
