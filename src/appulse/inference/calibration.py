"""Are posteriors as wide as they should be? Checks on pairs of truth and posterior samples.

Every check takes `samples`, drawn from the posterior of each test observation, and `theta`, the
parameters that each observation really has; theirs must be the distribution that the posterior was
trained for. None can prove a posterior right: SBC and coverage look at one parameter at a time and
at all observations together, TARP at all parameters, local C2ST (`local_c2st`) at one observation.

Shapes: B observations, S samples, D parameters, L levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import kstest

LEVELS = np.linspace(0, 1, 51)
SOME = 20  # test observations, and samples of each, that a check needs at least


@dataclass(frozen=True, eq=False)
class Coverage:
    """Share of truths inside credible regions of some levels; on the diagonal if calibrated."""

    level: Float[np.ndarray, "L"]
    inside: Float[np.ndarray, "L *D"]

    @property
    def deviation(self) -> float:
        """Largest distance from the diagonal.

        Chance alone makes about .8 / √B of it for one parameter, more for the worst of several.
        """
        level = self.level.reshape(-1, *(1,) * (self.inside.ndim - 1))
        return float(np.abs(self.inside - level).max())

    @property
    def excess(self) -> float:
        """Mean of inside − level: negative if over-confident, positive if under-confident."""
        return float((self.inside.T - self.level).mean())


def sbc_ranks(
    samples: Float[np.ndarray, "B S D"], theta: Float[np.ndarray, "B D"]
) -> Int[np.ndarray, "B D"]:
    """How many samples lie below the truth, 0 … S: uniform if calibrated (Talts et al. 2018).

    A histogram like ∪ says over-confident, like ∩ under-confident, a slope says biased.
    """
    _check(samples, theta)
    return (samples < theta[:, None]).sum(1)


def pit(
    samples: Float[np.ndarray, "B S D"], theta: Float[np.ndarray, "B D"], seed: int = 0
) -> Float[np.ndarray, "B D"]:
    """Probability integral transform: the posterior's distribution function at the truth.

    Ranks made continuous by a random number (Dawid 1984; Czado et al. 2009); exactly uniform on
    [0, 1] if calibrated, for any number of samples.
    """
    rng = np.random.default_rng(seed)
    return (sbc_ranks(samples, theta) + rng.random(theta.shape)) / (samples.shape[1] + 1)


def uniform_chance(
    samples: Float[np.ndarray, "B S D"], theta: Float[np.ndarray, "B D"], seed: int = 0
) -> Float[np.ndarray, "D"]:
    """p-value of each parameter's PIT against uniformity (Kolmogorov-Smirnov).

    Small for biased, over- and under-confident posteriors; look at D of them with that in mind.
    """
    values = pit(samples, theta, seed)
    return np.array([kstest(column, "uniform").pvalue for column in values.T])


def coverage(
    samples: Float[np.ndarray, "B S D"],
    theta: Float[np.ndarray, "B D"],
    levels: Sequence[float] | Float[np.ndarray, "L"] = LEVELS,
) -> Coverage:
    """Share of truths inside the equal-tailed interval of each parameter, (L, D)."""
    level = np.asarray(levels, dtype=float)
    centrality = np.abs(2 * pit(samples, theta) - 1)  # level of the interval that ends at θ
    return Coverage(level, (centrality <= level[:, None, None]).mean(1))


def tarp(
    samples: Float[np.ndarray, "B S D"],
    theta: Float[np.ndarray, "B D"],
    levels: Sequence[float] | Float[np.ndarray, "L"] = LEVELS,
    seed: int = 0,
) -> Coverage:
    """Tests of accuracy with random points, over all parameters jointly (Lemos et al. 2023).

    The region of an observation is a ball around a random point, here another observation's
    truth; what it holds of the posterior it should hold of the truths.
    """
    _check(samples, theta)
    rng = np.random.default_rng(seed)
    spread = np.where(theta.std(0) > 0, theta.std(0), 1.0)
    point = theta[(np.arange(len(theta)) + rng.integers(1, len(theta))) % len(theta)]
    truth = (((theta - point) / spread) ** 2).sum(-1)
    drawn = (((samples - point[:, None]) / spread) ** 2).sum(-1)
    nearer = (drawn < truth[:, None]).sum(1) + rng.random(len(theta))
    level = np.asarray(levels, dtype=float)
    return Coverage(level, (nearer / (samples.shape[1] + 1) <= level[:, None]).mean(1))


def crps(
    samples: Float[np.ndarray, "B S D"], theta: Float[np.ndarray, "B D"]
) -> Float[np.ndarray, "B D"]:
    """Continuous ranked probability score E|X − θ| − ½ E|X − X'|, in units of θ; less is better.

    A proper score (Gneiting & Raftery 2007): in the mean no posterior beats the true one. Pairs
    are averaged without each sample's distance to itself, so S samples are enough.
    """
    _check(samples, theta, 1, 2)
    n = samples.shape[1]
    weight = 2 * np.arange(1, n + 1) - n - 1  # Σ_ij |x_i − x_j| = 2 Σ_i weight_i x_(i)
    pairs = 2 * np.einsum("s,bsd->bd", weight, np.sort(samples, 1)) / (n * (n - 1))
    return np.abs(samples - theta[:, None]).mean(1) - pairs / 2


def _check(samples: np.ndarray, theta: np.ndarray, rows: int = SOME, draws: int = SOME) -> None:
    if len(theta) < rows or samples.shape[1] < draws:
        raise ValueError(
            f"there are {len(theta)} observations with {samples.shape[1]} samples each; "
            f"expected {rows} or more, with {draws} or more"
        )
    if not (np.isfinite(samples).all() and np.isfinite(theta).all()):
        raise ValueError("samples or theta hold NaN or infinity; leave these observations out")
