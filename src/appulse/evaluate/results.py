"""Results of an evaluation, in memory and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..files import atomic_path

Modality = Literal[
    "image", "spectrum", "both", "photometry", "image → spectrum", "spectrum → image"
]
Columns = Mapping[str, np.ndarray]  # labels by name; NaN or "" where unknown
DRAWS = 500  # of the bootstrap
DIFFERENCE = ", difference"  # ends the names of metrics that compare two methods


@dataclass(frozen=True)
class Result:
    """One number with its interval.

    Attributes:
        method: What made the prediction, e.g. "apertures, boosting".
        modality: What it was given; for retrieval the direction.
        target: A property, "properties" for all but the redshift, "morphology", "posterior" for
            the density of all properties or, for retrieval, "partner".
        metric: Which score.
        value, low, high: The score, the mean over seeds, and its 95 % interval over galaxies.
        n_train, n_test: Galaxies learned from and scored.
        baseline: Whether the method is one to beat.
        seconds: CPU time of fitting and predicting with one seed, where measured.
        column: Of the survey, that held the target's labels.
        seeds: How often the method was trained.
        spread: Standard deviation of the score over seeds; 0 for one.
        rival: If set, this is by how much the score is above that method's, on the same galaxies;
            the metric says so too.
    """

    method: str
    modality: Modality
    target: str
    metric: str
    value: float
    low: float
    high: float
    n_train: int
    n_test: int
    baseline: bool
    seconds: float | None = None
    column: str = ""
    seeds: int = 1
    spread: float = 0.0
    rival: str = ""


def write_results(path: str | Path, results: Sequence[Result]) -> None:
    """Writes results.json, whole or not at all."""
    with atomic_path(path) as temporary:
        rows = [asdict(result) for result in results]
        temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))


def read_results(path: str | Path) -> list[Result]:
    """Reads what `write_results` wrote."""
    return [Result(**row) for row in json.loads(Path(path).read_text())]


def known(column: np.ndarray) -> np.ndarray:
    """True where a label is known: a finite number, or a name."""
    return np.isfinite(column) if np.issubdtype(column.dtype, np.number) else column != ""


def labelled(columns: Columns) -> np.ndarray:
    """Of which galaxies some label is known."""
    return np.any([known(column) for column in columns.values()], axis=0)
