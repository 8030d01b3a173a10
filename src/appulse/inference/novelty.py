"""Is an observation like the simulations? Networks do not know when it is not.

Shapes: B observations, N simulations, F outputs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

NEIGHBOURS = 5
CALIBRATION = 2000  # simulations whose own distances are looked at
ALARM = 0.01  # chance of a false alarm


class TooFewError(ValueError):
    """There are not enough simulations to compare with."""


@dataclass(frozen=True)
class Novelty:
    """How far an observation is from simulations, as these are from each other."""

    distance: float  # to the nearest few, in units of the simulations' median
    chance: float  # share of simulations that are at least as far out
    least: float = 0.0  # chance of what is farther out than all of them

    @property
    def flagged(self) -> bool:
        """Whether so few are as far out that the observation counts as another kind of thing.

        Fewer than 100 simulations cannot tell a chance of 1 %; of them, none may be as far out,
        and there are more false alarms: 1 in 21 among 20.
        """
        return self.chance < ALARM or self.chance <= self.least

    def __str__(self) -> str:
        return f"{self.distance:.3g} times the typical distance; chance {self.chance:.2g}"


class Neighbourhood:
    """Simulations, and how far each of some is from its neighbours.

    Distances are in units of the robust spread of each output; outputs that are constant in the
    simulations count by their absolute difference.

    Attributes:
        least: Chance of what is farther out than all of them.
    """

    def __init__(self, x: Float[np.ndarray, "N F"], seed: int = 0):
        if len(x) <= NEIGHBOURS:
            raise TooFewError(f"there are {len(x)} simulations; expected more than {NEIGHBOURS}")
        low, self._middle, high = np.percentile(x, [15.87, 50, 84.13], axis=0)
        constant = np.where(x.std(0) > 0, x.std(0), 1.0)
        self._spread = np.where(high > low, (high - low) / 2, constant)
        self._tree = cKDTree((x - self._middle) / self._spread)
        rows = np.random.default_rng(seed).permutation(len(x))[:CALIBRATION]
        own = self._tree.query(self._tree.data[rows], NEIGHBOURS + 1)[0]  # the nearest is itself
        self._unit = max(float(np.median(own[:, -1])), 1e-300)
        self._own = np.sort(own[:, -1]) / self._unit
        self.least = 1 / (1 + len(self._own))

    def distance(self, x_obs: Float[np.ndarray, "B F"]) -> Float[np.ndarray, "B"]:
        """To the fifth neighbour, in units of the simulations' median."""
        new = self._tree.query((x_obs - self._middle) / self._spread, NEIGHBOURS)[0][:, -1]
        return new / self._unit

    def chance(self, distance: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
        """Share of simulations at least that far out: a conformal p-value, exact for any x."""
        nearer = np.searchsorted(self._own, distance)
        return (1 + len(self._own) - nearer) * self.least


def novelty(x_obs: Float[np.ndarray, "F"], x: Float[np.ndarray, "N F"], seed: int = 0) -> Novelty:
    """Compares the observation's distance to its fifth neighbour with those of simulations."""
    around = Neighbourhood(x, seed)
    distance = around.distance(x_obs[None])
    return Novelty(float(distance[0]), float(around.chance(distance)[0]), around.least)
