"""Is the posterior right at this one observation? A classifier looks.

Shapes: B calibration pairs, S samples, D parameters, F features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler


@dataclass(frozen=True)
class LocalC2ST:
    """How well a classifier tells posterior samples of an observation from truths."""

    statistic: float  # mean squared distance of its probabilities from 1/2; 0 if it cannot
    null: tuple[float, ...]  # the same where there is nothing to tell

    @property
    def chance(self) -> float:
        """p-value of the statistic."""
        return (1 + sum(value >= self.statistic for value in self.null)) / (1 + len(self.null))


def quadratic_classifier() -> Any:
    """Logistic regression on products of two: sees shifts, widths and correlations, in a moment."""
    return make_pipeline(
        StandardScaler(), PolynomialFeatures(2), StandardScaler(), LogisticRegression(C=0.1)
    )


def local_c2st(
    theta: Float[np.ndarray, "B D"],
    x: Float[np.ndarray, "B F"],
    drawn: Float[np.ndarray, "B D"],
    at: Float[np.ndarray, "S D"],
    x_obs: Float[np.ndarray, "F"],
    *,
    classifier: Any = None,
    permutations: int = 100,
    seed: int = 0,
) -> LocalC2ST:
    """Local classifier two-sample test (Linhart, Gramfort & Rodrigues 2023, algorithm 1).

    Args:
        theta, x: Pairs that the posterior has not seen.
        drawn: One posterior sample for each x.
        at: Posterior samples of x_obs, where the classifier is asked.
        classifier: Anything of scikit-learn with `predict_proba`, by default
            `quadratic_classifier`; a network sees more, and needs more pairs and time.
        permutations: Classifiers fitted to shuffled labels, for the null.
    """
    model = quadratic_classifier() if classifier is None else classifier
    rng = np.random.default_rng(seed)
    pairs = np.stack([np.hstack([theta, x]), np.hstack([drawn, x])])
    asked = np.hstack([at, np.broadcast_to(x_obs, (len(at), len(x_obs)))])
    swaps = [rng.random(len(theta)) < 0.5 for _ in range(permutations)]
    null = tuple(_statistic(model, pairs, swap, asked) for swap in swaps)
    return LocalC2ST(_statistic(model, pairs, np.zeros(len(theta), bool), asked), null)


def _statistic(
    model: Any,
    pairs: Float[np.ndarray, "2 B E"],
    swap: Bool[np.ndarray, "B"],
    asked: Float[np.ndarray, "S E"],
) -> float:
    """With truth and sample swapped in some pairs: under the null that changes nothing."""
    first = np.where(swap[:, None], pairs[1], pairs[0])
    second = np.where(swap[:, None], pairs[0], pairs[1])
    labels = np.repeat([0, 1], len(swap))
    fitted = clone(model).fit(np.vstack([first, second]), labels)
    return float(np.mean((fitted.predict_proba(asked)[:, 1] - 0.5) ** 2))
