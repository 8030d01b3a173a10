"""What each method said of the test galaxies, kept so that no training is done twice.

A row is one method with one seed: a JSON file named by method, seed and a digest of all that its
numbers depend on; it says which commit it is of. An evaluation that was interrupted goes on with
the first row that lacks.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..digest import digest_of
from ..files import atomic_path
from ..locks import claimed
from ..progress import each
from ..provenance import commit
from .protocol import Predictions

DIGITS = 7  # of numbers that are kept


@dataclass(frozen=True)
class Method:
    """Something that predicts, and how often it is to be trained.

    Attributes:
        name: In file names.
        run: Trains with a seed, and predicts.
        config: What its numbers depend on beside galaxies and seed.
        seeds: Those to train with; a method without chance has one.
    """

    name: str
    run: Callable[[int], Sequence[Predictions]]
    config: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)


@dataclass(frozen=True)
class Rows:
    """A folder of rows of an evaluation of some galaxies."""

    path: Path
    galaxies: Mapping[str, Any]  # see `Sample.identity`

    def make(self, methods: Iterable[Method]) -> None:
        """Those that the folder lacks, with each seed, in the methods' order.

        Several processes share them. What others are at is waited for at the end, and made here
        where they failed.
        """
        asked = [(self._path(method, seed), method, seed) for method, seed in _seeded(methods)]
        for row in asked:
            _make(*row, wait=False)
        lacking = [row for row in asked if not row[0].exists()]
        for row in each(lacking, "wait for rows") if lacking else ():
            _make(*row, wait=True)

    def of(self, methods: Iterable[Method]) -> Iterator[Predictions]:
        """What the methods say, with each seed, in their order, of rows that are made."""
        for method, seed in _seeded(methods):
            yield from read_row(self._path(method, seed))

    def _path(self, method: Method, seed: int) -> Path:
        release = version("appulse")  # stands for what methods do beside their configuration
        all_of_it = [release, dict(self.galaxies), method.name, dict(method.config), seed]
        words = "".join(c if c.isalnum() else " " for c in method.name).split()
        return self.path / f"{'-'.join(words)}-{seed}-{digest_of(all_of_it)}.json"


def _seeded(methods: Iterable[Method]) -> Iterator[tuple[Method, int]]:
    return ((method, seed) for method in methods for seed in method.seeds)


def _make(path: Path, method: Method, seed: int, wait: bool) -> None:
    """Unless it is there, or another process is at it and not to be waited for."""
    if path.exists():
        return
    with claimed(path, wait=wait) as mine:
        if mine and not path.exists():
            write_row(path, method.run(seed))


def write_row(path: Path, row: Sequence[Predictions]) -> None:
    """Writes it whole or not at all."""
    code = commit()
    with atomic_path(path) as temporary:
        entries = [
            asdict(replace(p, values={}, commit=code))
            | {"values": {name: _plain(values) for name, values in p.values.items()}}
            for p in row
        ]
        temporary.write_text(json.dumps(entries, ensure_ascii=False, allow_nan=False))


def read_row(path: Path) -> list[Predictions]:
    """Reads what `write_row` wrote; numbers have seven digits."""
    entries = json.loads(path.read_text())
    return [
        Predictions(**e | {"values": {name: _array(v) for name, v in e["values"].items()}})
        for e in entries
    ]


def _plain(values: np.ndarray) -> list[Any]:
    if not np.issubdtype(values.dtype, np.floating):
        return values.tolist()
    return [float(f"{x:.{DIGITS}g}") if np.isfinite(x) else None for x in values.tolist()]


def _array(values: list[Any]) -> np.ndarray:
    if None in values:
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.array(values)
