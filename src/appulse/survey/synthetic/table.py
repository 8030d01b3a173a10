"""Tables of galaxies: frozen dataclasses whose arrays share their first axis."""

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

Rows = TypeVar("Rows", bound="Table")


@dataclass(frozen=True, eq=False)
class Table:
    """Base of a frozen dataclass of arrays, row i of each being galaxy i."""

    def __getitem__(self: Rows, rows: slice | np.ndarray) -> Rows:
        """The galaxies in `rows`; views if it is a slice."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})
