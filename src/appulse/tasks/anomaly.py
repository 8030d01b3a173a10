"""Which galaxies are odd: far from others in embedding space, or where few are to be expected.

Shapes: B galaxies to judge, N of reference, D embedding.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import null_space
from scipy.stats import norm
from sklearn.decomposition import PCA

from ..inference.estimator import EstimatorConfig
from ..inference.posterior import Posterior, PosteriorConfig
from ..inference.prior import IndependentPrior, Normal
from .neighbours import Space

NEIGHBOURS = 5
COMPONENTS = 16  # principal components whose density a flow learns
ROWS_EACH = 5  # of the reference for each component; the directions left share one variance
HELD_OUT = 0.2  # of the reference, to compare with
FIT = PosteriorConfig(EstimatorConfig(width=64, depth=3))  # of the flow
FEWEST = 50  # galaxies of reference


@dataclass(frozen=True, eq=False)
class Anomalies:
    """How odd each galaxy is.

    A chance is the share of the reference that is at least as odd: where it is small, the galaxy
    is not like the reference. It is a conformal p-value: among galaxies that are, it is uniform.
    """

    distance: Float[np.ndarray, "B"]  # to the fifth neighbour
    distance_chance: Float[np.ndarray, "B"]
    log_density: Float[np.ndarray, "B"]
    density_chance: Float[np.ndarray, "B"]


def find_anomalies(
    vectors: Float[np.ndarray, "B D"],
    reference: Float[np.ndarray, "N D"],
    *,
    whitened: bool = True,
    seed: int = 0,
) -> Anomalies:
    """Judges embeddings by those of a reference, which must not hold the same galaxies.

    Args:
        vectors: Of the galaxies to judge.
        reference: Of others.
        whitened: Whether distances are of whitened vectors: as embeddings want it, and numbers
            whose units mean something do not.
        seed: Of the part held out, and of the flow.

    Raises:
        ValueError: If the reference has fewer than 50 rows.
    """
    if len(reference) < FEWEST:
        raise ValueError(f"the reference has {len(reference)} rows; expected {FEWEST} or more")
    order = np.random.default_rng(seed).permutation(len(reference))
    held, known = np.split(reference[order], [int(HELD_OUT * len(order))])
    space = Space(known, whitened=whitened)
    own, distance = (space.nearest(x, NEIGHBOURS)[0][:, -1] for x in (held, vectors))
    density = EmbeddingDensity.fit(known, seed)
    usual, log_prob = density.log_prob(held), density.log_prob(vectors)
    return Anomalies(distance, _chance(distance, own), log_prob, _chance(-log_prob, -usual))


class EmbeddingDensity:
    """Density of embeddings: a flow on the first principal components, Gaussians on the rest.

    Of few rows there are few components; what is orthogonal to all has one variance.
    """

    def __init__(self, components: PCA, left: Float[np.ndarray, "D L"], flow: Posterior):
        self._components, self._left, self._flow = components, left, flow

    @classmethod
    def fit(cls, vectors: Float[np.ndarray, "N D"], seed: int = 0) -> "EmbeddingDensity":
        """Flow matching (Lipman et al. 2023) without evidence: a posterior that knows nothing."""
        vectors = vectors.astype(np.float64)
        count = min(vectors.shape[1], len(vectors) // ROWS_EACH)
        components = PCA(count, whiten=True, svd_solver="full").fit(vectors)
        first = components.transform(vectors)[:, :COMPONENTS]
        prior = IndependentPrior({str(i): Normal(0.0, 1.0) for i in range(first.shape[1])})
        fit = replace(FIT, seed=seed)
        left = _orthogonal(components, vectors)
        return cls(components, left, Posterior.fit(first, _nothing(first), prior, fit))

    def log_prob(self, vectors: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B"]:
        """Log density in units of the components' scatter, so that only differences count."""
        vectors = vectors.astype(np.float64)
        left = (vectors - self._components.mean_) @ self._left
        whole = np.hstack([self._components.transform(vectors), left])
        first, rest = np.split(whole, [min(COMPONENTS, self._components.n_components_)], axis=1)
        return self._flow.log_prob(first, _nothing(first)) + norm.logpdf(rest).sum(axis=1)


def _orthogonal(components: PCA, vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "D L"]:
    """A basis of the directions that are left, in units of their common scatter."""
    basis = null_space(components.components_)
    left = (vectors - components.mean_) @ basis
    return basis / np.sqrt(np.sum(left**2) / max(left.size, 1))


def _nothing(rows: Float[np.ndarray, "B _"]) -> Float[np.ndarray, "B 1"]:
    return np.zeros((len(rows), 1))


def _chance(
    oddness: Float[np.ndarray, "B"], usual: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "B"]:
    """Share of the usual values, and of the one in question, that are as large."""
    below = np.searchsorted(np.sort(usual), oddness, side="left")
    return (1 + len(usual) - below) / (1 + len(usual))
