"""A survey in memory: pairs of image and spectrum with their catalogue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .images import Images
from .rows import as_index, require_rows
from .spectra import Spectra

PROPERTIES = ("redshift", "log_mstar", "age", "log_zsol", "log_ssfr")
LABELS = (*PROPERTIES, "morphology")
LABEL_UNITS = {
    "redshift": "",
    "log_mstar": "dex(Msun), formed",
    "age": "Gyr, mass-weighted",
    "log_zsol": "dex(solar)",
    "log_ssfr": "dex(1/yr), 1 Gyr",
    "morphology": "class",
}
COLUMN_UNITS = {
    f"{label}{kind}": unit
    for label, unit in LABEL_UNITS.items()
    for kind in ("", "_catalogue", "_true")
}


def label_columns(columns: Iterable[str]) -> dict[str, str]:
    """Which column holds each of `LABELS` that some column holds, as a catalogue has it.

    Simulations tell `*_catalogue` from `*_true`; other surveys have one column, plainly named.
    The truth is for those who ask for it by name.
    """
    there = set(columns)
    choice = {label: [f"{label}_catalogue", label] for label in LABELS}
    return {
        label: next(name for name in names if name in there)
        for label, names in choice.items()
        if there.intersection(names)
    }


@dataclass(frozen=True, eq=False)
class Survey:
    """Galaxies seen both ways; row i of `images`, `spectra` and each column is one galaxy.

    `columns` holds labels and metadata by name, one entry per row; units are in `COLUMN_UNITS`,
    and `label_columns` says which are the labels.
    """

    images: Images
    spectra: Spectra
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.images)
        if not np.array_equal(self.images.ids, self.spectra.ids):
            raise ValueError(
                f"{n} images and {len(self.spectra)} spectra differ in ids; pair them first"
            )
        require_rows(n, **self.columns)

    @property
    def ids(self) -> np.ndarray:
        """Names of the galaxies, shape (B,)."""
        return self.images.ids

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> "Survey":
        """The rows named by a slice, an index or an array."""
        index = as_index(rows, len(self))
        columns = {name: column[index] for name, column in self.columns.items()}
        return Survey(self.images[index], self.spectra[index], columns)

    @classmethod
    def concatenate(cls, parts: Sequence["Survey"]) -> "Survey":
        """All rows of several surveys with the same columns, in order."""
        names = list(parts[0].columns)
        for part in parts:
            if list(part.columns) != names:
                raise ValueError(f"columns differ: {names} and {list(part.columns)}")
        return cls(
            Images.concatenate([part.images for part in parts]),
            Spectra.concatenate([part.spectra for part in parts]),
            {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        )
