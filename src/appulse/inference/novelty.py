"""Is an observation like the simulations? Networks do not know when it is not.

Shapes: N simulations, F outputs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

NEIGHBOURS = 5
CALIBRATION = 2000  # simulations whose own distances are looked at
ALARM = 0.01  # chance of a false alarm


@dataclass(frozen=True)
class Novelty:
    """How far an observation is from simulations, as these are from each other."""

    distance: float  # to the nearest few, in units of the simulations' median
    chance: float  # share of simulations that are at least as far out

    @property
    def flagged(self) -> bool:
        """Whether so few are as far out that the observation counts as another kind of thing."""
        return self.chance < ALARM

    def __str__(self) -> str:
        return f"{self.distance:.3g} times the typical distance; chance {self.chance:.2g}"


def novelty(x_obs: Float[np.ndarray, "F"], x: Float[np.ndarray, "N F"], seed: int = 0) -> Novelty:
    """Compares distances to the fifth neighbour: a conformal p-value, exact for any simulator.

    Distances are in units of the robust spread of each output; outputs that are constant in the
    simulations count by their absolute difference.
    """
    if len(x) <= NEIGHBOURS:
        raise ValueError(f"there are {len(x)} simulations; expected more than {NEIGHBOURS}")
    low, middle, high = np.percentile(x, [15.87, 50, 84.13], axis=0)
    spread = np.where(high > low, (high - low) / 2, np.where(x.std(0) > 0, x.std(0), 1.0))
    tree = cKDTree((x - middle) / spread)
    rows = np.random.default_rng(seed).permutation(len(x))[:CALIBRATION]
    own = tree.query(tree.data[rows], NEIGHBOURS + 1)[0][:, -1]  # the nearest is itself
    new = tree.query((x_obs - middle) / spread, NEIGHBOURS)[0][-1]
    chance = (1 + np.sum(own >= new)) / (1 + len(own))
    return Novelty(float(new / max(np.median(own), 1e-300)), float(chance))
