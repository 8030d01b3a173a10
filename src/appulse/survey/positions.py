"""Names and places of galaxies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from .rows import as_index, one_per_row, require_rows

ID_NAMES = ("targetid", "id", "object_id", "iauname", "name")
RA_NAMES = ("target_ra", "ra")
DEC_NAMES = ("target_dec", "dec")
RA_RANGE, DEC_RANGE = (-180.0, 360.0), (-90.0, 90.0)  # degrees


@dataclass(frozen=True, eq=False)
class Positions:
    """Galaxies by name and place on the sky, one a row.

    Attributes:
        ids: Names, "" where there is none.
        ra, dec: ICRS degrees, NaN where unknown.
    """

    ids: np.ndarray
    ra: Float[np.ndarray, "B"]
    dec: Float[np.ndarray, "B"]

    def __post_init__(self) -> None:
        require_rows(len(self.ids), ids=self.ids, ra=self.ra, dec=self.dec)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> "Positions":
        """The rows named by a slice, an index or an array."""
        index = as_index(rows, len(self))
        return Positions(self.ids[index], self.ra[index], self.dec[index])

    @property
    def known(self) -> Bool[np.ndarray, "B"]:
        """Which galaxies have a place on the sky."""
        return on_sky(self.ra, self.dec)


def on_sky(ra: Float[np.ndarray, "B"], dec: Float[np.ndarray, "B"]) -> Bool[np.ndarray, "B"]:
    """Which positions in degrees there are: ra from -180 to 360, dec from -90 to 90."""
    return _between(ra, *RA_RANGE) & _between(dec, *DEC_RANGE)


def _between(values: Float[np.ndarray, "B"], low: float, high: float) -> Bool[np.ndarray, "B"]:
    return (values >= low) & (values <= high)


def places(ra: Any, dec: Any, n: int) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """Positions of `n` rows, a scalar for all; NaN where there is none, as -999 often says."""
    ra, dec = one_per_row(ra, n), one_per_row(dec, n)
    require_rows(n, ra=ra, dec=dec)
    known = _between(ra, *RA_RANGE), _between(dec, *DEC_RANGE)
    return np.where(known[0], ra, np.nan), np.where(known[1], dec, np.nan)


def position_columns(names: Sequence[str]) -> list[str]:
    """Those of a table's columns that name and place its rows; case does not matter."""
    found = (find(names, wanted) for wanted in (ID_NAMES, RA_NAMES, DEC_NAMES))
    return [name for name in found if name is not None]


def positions_of(columns: dict[str, Any]) -> Positions:
    """Names and places from a table's columns; ra from -180 to 0 is turned to [180, 360)."""
    rows = len(next(iter(columns.values())))
    id_name, *places = (find(list(columns), n) for n in (ID_NAMES, RA_NAMES, DEC_NAMES))
    ids = np.full(rows, "") if id_name is None else ids_of(columns[id_name])
    ra, dec = (np.full(rows, np.nan) if p is None else columns[p].astype(float) for p in places)
    return Positions(ids, np.where(on_sky(ra, dec), ra % 360 % 360, ra), dec)


def ids_of(values: np.ndarray) -> np.ndarray:
    """Ids as text; missing ones, and DESI's -1 for fibres on nothing, as ""."""
    if values.dtype.kind == "f":  # often whole numbers, some of which are missing
        names = [f"{v:.0f}" if v.is_integer() else str(v) for v in values.tolist()]
        text = np.array(names, dtype=np.str_)
    elif values.dtype.kind in "iu":
        text = values.astype(str)
    else:
        return values.astype(str)
    return np.where((text == "-1") | (text == "nan"), "", text)


def find(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted names, whatever its case; None if there is none of them."""
    there = {name.lower(): name for name in names}
    return next((there[name.lower()] for name in wanted if name.lower() in there), None)
