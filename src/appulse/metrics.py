"""Scores of predictions and of retrieval, and their intervals.

Predictions come first, the truth second. Redshift errors are Δz / (1 + z_true) everywhere. Those of
whole posteriors, PIT, coverage and CRPS, are in `inference.calibration`.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

FEWEST = 20  # rows of a bin that gets a score
LARGEST_ASSIGNMENT = 16  # rows whose pairings are counted


class Estimate(NamedTuple):
    """A statistic with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Bin(NamedTuple):
    """A statistic of the rows whose coordinate is in [low, high)."""

    low: float
    high: float
    rows: int
    estimate: Estimate


class ConstantTruthError(ValueError):
    """A score asks how truths vary, and they do not."""


def r2(predicted: Float[np.ndarray, "B"], true: Float[np.ndarray, "B"]) -> float:
    """Coefficient of determination: 1 is perfect, 0 as good as the mean of `true`."""
    if true.min() == true.max():
        raise ConstantTruthError(
            f"all {len(true)} true values are {true[0]}; R² needs them to differ"
        )
    return float(1 - np.sum((predicted - true) ** 2) / np.sum((true - true.mean()) ** 2))


def mean_r2(predicted: Float[np.ndarray, "B P"], true: Float[np.ndarray, "B P"]) -> float:
    """The mean of `r2` over properties."""
    return float(np.mean([r2(p, t) for p, t in zip(predicted.T, true.T, strict=True)]))


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


def cde_loss(
    density: Float[np.ndarray, "B G"], grid: Float[np.ndarray, "G"], true: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B"]:
    """Loss of conditional densities, ∫ p² − 2 p(true) (Izbicki & Lee 2017); less is better.

    The mean is, but for a constant, the integrated squared error of the density, so that the
    true one has the least.

    Args:
        density: On the grid, as one over its unit; 0 beyond it.
        grid: Rising values of the parameter.
        true: The parameter of each row.

    Raises:
        ValueError: If the grid does not rise, or a density is not 1 in all within 2 %.
    """
    if not (np.diff(grid) > 0).all():
        raise ValueError("the grid must rise from value to value; sort it with its densities")
    total = np.trapezoid(density, grid, axis=1)
    if not (np.abs(total - 1) < 0.02).all():
        bad = total[np.abs(total - 1).argmax()]
        raise ValueError(
            f"a density integrates to {bad:.3g} on the grid; expected 1: normalise it, or take "
            "a finer or wider grid"
        )
    at_truth = [np.interp(t, grid, p, 0, 0) for t, p in zip(true, density, strict=True)]
    return np.trapezoid(density**2, grid, axis=1) - 2 * np.array(at_truth)


def accuracy(predicted: Shaped[np.ndarray, "B"], true: Shaped[np.ndarray, "B"]) -> float:
    """Share of right classes."""
    return float(np.mean(predicted == true))


def balanced_accuracy(predicted: Shaped[np.ndarray, "B"], true: Shaped[np.ndarray, "B"]) -> float:
    """Mean share found of each true class: a rare class weighs as much as a common one."""
    classes, index = np.unique(true, return_inverse=True)
    found = np.bincount(index, weights=predicted == true, minlength=len(classes))
    return float(np.mean(found / np.bincount(index)))


def macro_f1(predicted: Shaped[np.ndarray, "B"], true: Shaped[np.ndarray, "B"]) -> float:
    """Mean of F1, the harmonic mean of precision and recall, over the classes of either."""
    classes = np.union1d(predicted, true)
    said, is_so = predicted[:, None] == classes, true[:, None] == classes
    return float(np.mean(2 * (said & is_so).sum(0) / (said.sum(0) + is_so.sum(0))))


def vote_fraction_error(
    predicted: Float[np.ndarray, "B C"], votes: Float[np.ndarray, "B C"]
) -> float:
    """Mean absolute error of the fraction of volunteers that gave each of C answers.

    What Walmsley et al. (2022) report for Galaxy Zoo DECaLS.
    """
    return float(np.mean(np.abs(predicted - votes)))


def partner_ranks(similarity: Float[np.ndarray, "B B"]) -> Int[np.ndarray, "B"]:
    """Rank of each row's true partner, the diagonal; 1 is best.

    Ties count against the partner, so that a collapsed space does not look perfect.
    """
    if not np.isfinite(similarity).all():
        raise ValueError("similarities must be finite; an embedding holds NaN or infinity")
    return np.sum(similarity >= np.diagonal(similarity)[:, None], axis=1)


def assignment_chance(cost: Int[np.ndarray, "B B"]) -> float:
    """Chance that a random pairing of rows and columns costs no more than the diagonal.

    Exact: over all B! pairings, counted by subsets of columns, as a permanent is. With the ranks
    of all candidates as costs, it is the p-value of the sum of the partners' ranks.

    Args:
        cost: Whole numbers, 0 or more, such as the rank of column j for row i.

    Raises:
        ValueError: With more than 16 rows: memory grows as 2^B.
    """
    rows = len(cost)
    if rows > LARGEST_ASSIGNMENT:
        raise ValueError(f"{rows} rows; expected at most {LARGEST_ASSIGNMENT}: draw pairings")
    most = int(np.trace(cost))  # pairings that cost more need not be told apart
    ways = np.zeros((2**rows, most + 1), np.int64)  # by columns taken, and by cost
    ways[0, 0] = 1
    for taken in range(2**rows - 1):
        row = taken.bit_count()
        for column in range(rows):
            if not taken >> column & 1 and cost[row, column] <= most:
                step = int(cost[row, column])
                ways[taken | 1 << column, step:] += ways[taken, : most + 1 - step]
    return float(ways[-1].sum() / math.factorial(rows))


def recall_at_k(ranks: Int[np.ndarray, "B"], k: int) -> float:
    """Share of true partners among the first k."""
    return float(np.mean(ranks <= k))


def ranks_in_pools(
    ranks: Int[np.ndarray, "B"], candidates: int, pool: int
) -> Float[np.ndarray, "B"]:
    """Ranks to expect if each partner were sought in a random pool instead of all candidates.

    Of r − 1 candidates before the partner, (r − 1)(pool − 1) / (candidates − 1) are in a pool
    of this size that holds the partner (hypergeometric mean).
    """
    if not 1 < pool <= candidates:
        raise ValueError(f"a pool of {pool} of {candidates} candidates; expected 2 or more of them")
    return 1 + (ranks - 1) * ((pool - 1) / (candidates - 1))


def neighbour_mean(
    similarity: Float[np.ndarray, "B B"], values: Float[np.ndarray, "B"], k: int = 10
) -> Float[np.ndarray, "B"]:
    """Physics of neighbours: mean value of each row's k nearest columns, its own left out.

    Against the row's own value, `r2` says whether those are alike where a partner is missed.
    Unknown values, NaN, do not count; a row whose neighbours are all unknown gets NaN.

    Raises:
        ValueError: If there are not k others.
    """
    if not 0 < k < len(values):
        raise ValueError(f"k is {k}, of {len(values)} rows; expected 1 to {len(values) - 1}")
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = np.argpartition(-others, k - 1, axis=1)[:, :k]
    known = np.isfinite(values)[nearest]
    total = np.where(known, values[nearest], 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def bootstrap(
    statistic: Callable[..., float],
    *arrays: Shaped[np.ndarray, "B ..."],
    n: int = 1000,
    seed: int = 0,
) -> Estimate:
    """`statistic(*arrays)` with its 95 % percentile interval over resampled rows (Efron 1979).

    Rows are galaxies and stay together across the arrays. Draws in which all truths are equal,
    as happens with few or rare ones, do not count.

    Raises:
        ConstantTruthError: If all truths are equal in the arrays themselves.
    """
    value = float(statistic(*arrays))
    rows = len(arrays[0])
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n):
        pick = rng.integers(rows, size=rows)
        with contextlib.suppress(ConstantTruthError):
            draws.append(statistic(*(array[pick] for array in arrays)))
    low, high = np.percentile(draws or [value], [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def difference(
    score: Callable[..., float],
    ours: Shaped[np.ndarray, "B ..."],
    theirs: Shaped[np.ndarray, "B ..."],
    *truth: Shaped[np.ndarray, "B ..."],
    n: int = 1000,
    seed: int = 0,
) -> Estimate:
    """By how much a method scores more than another: `score(ours, …) − score(theirs, …)`.

    Each draw has the same galaxies for both, so that what is hard for both does not widen the
    interval.
    """

    def gap(ours: np.ndarray, theirs: np.ndarray, *truth: np.ndarray) -> float:
        return score(ours, *truth) - score(theirs, *truth)

    return bootstrap(gap, ours, theirs, *truth, n=n, seed=seed)


def binned(
    statistic: Callable[..., float],
    coordinate: Float[np.ndarray, "B"],
    edges: Sequence[float],
    *arrays: Shaped[np.ndarray, "B ..."],
    n: int = 1000,
    seed: int = 0,
) -> list[Bin]:
    """`bootstrap` in bins of redshift or magnitude; bins of fewer than 20 rows are left out."""
    bins = []
    for low, high in pairwise(edges):
        inside = (coordinate >= low) & (coordinate < high)
        if inside.sum() >= FEWEST:
            picked = (array[inside] for array in arrays)
            estimate = bootstrap(statistic, *picked, n=n, seed=seed)
            bins.append(Bin(low, high, int(inside.sum()), estimate))
    return bins
