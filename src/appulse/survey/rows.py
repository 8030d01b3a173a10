"""Checks that all tables of rows share."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

MASKED_LIMIT = 0.5  # a row with a larger masked fraction is not an observation


def default_ids(n: int) -> np.ndarray:
    """Names "0", "1", ... for rows that came without any."""
    return np.arange(n).astype(str)


def one_per_row(value: Any, n: int) -> Float[np.ndarray, "B"]:
    """`value` as a float64 array with one entry per row; a scalar holds for all rows."""
    array = np.asarray(value, dtype=np.float64)
    return np.full(n, array) if array.ndim == 0 else array


def require_rows(n: int, **columns: np.ndarray) -> None:
    """Raises ValueError, naming the column, unless each has one entry per row."""
    for name, column in columns.items():
        if column.shape != (n,):
            raise ValueError(f"{name} has shape {column.shape}; expected ({n},), one per row")


def as_index(rows: Any, n: int) -> slice | Int[np.ndarray, "N"] | Bool[np.ndarray, "N"]:
    """A slice or an array that keeps the batch axis, whatever names the rows."""
    if isinstance(rows, slice):
        return rows
    index = np.asarray(rows)
    if index.size == 0:
        return np.zeros(0, dtype=int)
    if index.dtype == bool:
        return index
    if not np.issubdtype(index.dtype, np.integer):
        raise TypeError(f"rows are named by {index.dtype}; expected a slice, integers or booleans")
    return np.atleast_1d(index)


def masked_fraction(mask: Bool[np.ndarray, "B ..."]) -> Float[np.ndarray, "B"]:
    """Fraction of each row's pixels that are masked."""
    return mask.reshape(len(mask), -1).mean(axis=1)


def mostly_masked(ids: np.ndarray, mask: Bool[np.ndarray, "B ..."], what: str) -> None:
    """Raises ValueError, naming the rows, where more than half of the pixels are masked."""
    bad = np.flatnonzero(masked_fraction(mask) > MASKED_LIMIT)
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(ids)} rows have more than half of their {what} pixels masked "
            f"or not finite: rows {_named(ids, bad)}; leave them out"
        )


def require_finite(ids: np.ndarray, values: Float[np.ndarray, "B D"], why: str) -> None:
    """Raises ValueError, naming the rows and saying why, where some values are not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(ids)} rows {why}: rows {_named(ids, bad)}; leave them out"
        )


def _named(ids: np.ndarray, rows: Int[np.ndarray, "N"]) -> str:
    """The first few rows."""
    few = ", ".join(f"{i} (id {ids[i]})" for i in rows[:5])
    return few if len(rows) <= 5 else f"{few}, ..."
