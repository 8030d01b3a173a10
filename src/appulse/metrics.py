"""Scores of predictions and of retrieval, and their intervals.

Predictions come first, the truth second. Redshift errors are Δz / (1 + z_true) everywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped


class Estimate(NamedTuple):
    """A statistic with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def r2(predicted: Float[np.ndarray, "B"], true: Float[np.ndarray, "B"]) -> float:
    """Coefficient of determination: 1 is perfect, 0 as good as the mean of `true`."""
    spread = np.sum((true - true.mean()) ** 2)
    if spread == 0:
        raise ValueError(f"all {len(true)} true values are {true[0]}; R² needs them to differ")
    return float(1 - np.sum((predicted - true) ** 2) / spread)


def redshift_error(z: Float[np.ndarray, "B"], z_true: Float[np.ndarray, "B"]) -> np.ndarray:
    """Δz / (1 + z_true), shape (B,)."""
    return (z - z_true) / (1 + z_true)


def nmad(z: Float[np.ndarray, "B"], z_true: Float[np.ndarray, "B"]) -> float:
    """Normalised median absolute deviation of the redshift error (Ilbert et al. 2009).

    Taken about the median, so a bias does not count; a Gaussian's is its standard deviation.
    """
    error = redshift_error(z, z_true)
    return float(1.4826 * np.median(np.abs(error - np.median(error))))


def bias(z: Float[np.ndarray, "B"], z_true: Float[np.ndarray, "B"]) -> float:
    """Median redshift error."""
    return float(np.median(redshift_error(z, z_true)))


def fraction_within(
    z: Float[np.ndarray, "B"], z_true: Float[np.ndarray, "B"], limit: float
) -> float:
    """Share of galaxies whose redshift error is smaller than `limit`; NaN counts as a failure."""
    return float(np.mean(np.abs(redshift_error(z, z_true)) < limit))


def outlier_fraction(
    z: Float[np.ndarray, "B"], z_true: Float[np.ndarray, "B"], limit: float
) -> float:
    """Share of galaxies whose redshift error is `limit` or more, or NaN."""
    return 1 - fraction_within(z, z_true, limit)


def accuracy(predicted: Shaped[np.ndarray, "B"], true: Shaped[np.ndarray, "B"]) -> float:
    """Share of right classes."""
    return float(np.mean(predicted == true))


def balanced_accuracy(predicted: Shaped[np.ndarray, "B"], true: Shaped[np.ndarray, "B"]) -> float:
    """Mean share found of each true class: a rare class weighs as much as a common one."""
    classes, index = np.unique(true, return_inverse=True)
    found = np.bincount(index, weights=predicted == true, minlength=len(classes))
    return float(np.mean(found / np.bincount(index)))


def partner_ranks(similarity: Float[np.ndarray, "B B"]) -> Int[np.ndarray, "B"]:
    """Rank of each row's true partner, the diagonal; 1 is best.

    Ties count against the partner, so that a collapsed space does not look perfect.
    """
    if not np.isfinite(similarity).all():
        raise ValueError("similarities must be finite; an embedding holds NaN or infinity")
    return np.sum(similarity >= np.diagonal(similarity)[:, None], axis=1)


def recall_at_k(ranks: Int[np.ndarray, "B"], k: int) -> float:
    """Share of true partners among the first k."""
    return float(np.mean(ranks <= k))


def bootstrap(
    statistic: Callable[..., float],
    *arrays: Shaped[np.ndarray, "B ..."],
    n: int = 1000,
    seed: int = 0,
) -> Estimate:
    """`statistic(*arrays)` with its 95 % percentile interval over resampled rows (Efron 1979).

    Rows are galaxies and stay together across the arrays: the difference of two methods on
    the same galaxies is `bootstrap(lambda a, b, t: r2(a, t) - r2(b, t), a, b, true)`.
    """
    rows = len(arrays[0])
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n):
        pick = rng.integers(rows, size=rows)
        draws.append(statistic(*(array[pick] for array in arrays)))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(statistic(*arrays)), float(low), float(high))
