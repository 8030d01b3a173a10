"""The nearest galaxies, by features as they are or whitened.

Contrastive learning leaves most of an embedding's scatter to a few axes, and to others what tells
similar galaxies apart or an odd one from all. Among principal components of pixels the others are
noise.

Shapes: B galaxies, D features, N neighbours.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from ..align.whitening import Whitening

RIDGE = 0.1  # of whitening, in variances of a standardised feature


class Space:
    """Galaxies that others may be near to; distances are Euclidean."""

    def __init__(self, x: Float[np.ndarray, "B D"], *, whitened: bool = False):
        self._whitening = Whitening(x.shape[1]) if whitened else None
        if self._whitening:
            self._whitening.learn(torch.from_numpy(x), RIDGE)
        self._search = NearestNeighbors(algorithm="brute").fit(self._placed(x))

    def nearest(
        self, x: Float[np.ndarray, "B D"], n: int
    ) -> tuple[Float[np.ndarray, "B N"], Int[np.ndarray, "B N"]]:
        """Distances and rows of the nearest."""
        return self._search.kneighbors(self._placed(x), n)

    def _placed(self, x: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B D"]:
        return self._whitening(torch.from_numpy(x).float()).numpy() if self._whitening else x
