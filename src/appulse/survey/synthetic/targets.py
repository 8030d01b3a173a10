"""What a survey points its fibres at: the classes of DESI's targets and their cuts.

Magnitudes are AB, total, without Galactic dust. Cuts that need infrared magnitudes or fibre fluxes
are left out or replaced, as named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

Tracer = Literal["bgs", "lrg", "elg", "qso", "star"]
SurveyPopulation = Literal["bgs", "lrg", "elg", "qso", "star", "mixed"]
TRACERS: tuple[Tracer, ...] = get_args(Tracer)

Magnitude = Float[np.ndarray, "B"]
Cuts = Callable[[Magnitude, Magnitude, Magnitude], Bool[np.ndarray, "B"]]

BRIGHT_LIMIT, FAINT_LIMIT = 13.5, 19.5  # of r, bright galaxy survey
# Effective seconds (Schlafly et al. 2023): of the bright and of the dark programme.
BRIGHT_TIME, DARK_TIME = 180.0, 1000.0
# Targets per square degree (DESI Collaboration 2023), stars as contaminants: ours.
MIXTURE = {"bgs": 864, "lrg": 624, "elg": 2404, "qso": 310, "star": 200}


@dataclass(frozen=True)
class Galaxies:
    """A class of galaxies: where proposals are drawn, and which of them are kept.

    Attributes:
        redshift, log_mass: Range of the proposals; mass formed, log10 M☉.
        passes: Cuts in g, r, z.
    """

    redshift: tuple[float, float]
    log_mass: tuple[float, float]
    passes: Cuts


def _bright(g: Magnitude, r: Magnitude, z: Magnitude) -> Bool[np.ndarray, "B"]:
    """Bright galaxies (Hahn et al. 2023), brightest left out."""
    return (r > BRIGHT_LIMIT) & (r < FAINT_LIMIT)


def _luminous_red(g: Magnitude, r: Magnitude, z: Magnitude) -> Bool[np.ndarray, "B"]:
    """Optical cuts of DESI's final design (DESI Collaboration 2016, part I, section 3.2)."""
    red = (r - z > 0.75) & (r - z < 2.45)
    return red & (z > 18.01) & (z < 20.41) & (z < 17.18 + 2 * (r - z)) & (z > 15.11 + 2 * (r - z))


def _emission_line(g: Magnitude, r: Magnitude, z: Magnitude) -> Bool[np.ndarray, "B"]:
    """Raichoor et al. (2023), LOP and VLO; total g < 23.5 stands for fibre g < 24.1."""
    blue = (g - r < 0.5 * (r - z) + 0.1) & (g - r < -1.2 * (r - z) + 1.6)
    return blue & (r - z > 0.15) & (g > 20) & (g < 23.5)


BGS = Galaxies((0.01, 0.6), (8.0, 12.1), _bright)
LRG = Galaxies((0.35, 1.1), (10.6, 12.1), _luminous_red)
ELG = Galaxies((0.6, 1.63), (9.0, 11.6), _emission_line)
GALAXIES = {"bgs": BGS, "lrg": LRG, "elg": ELG}


def draw_tracers(population: SurveyPopulation, n: int, rng: np.random.Generator) -> np.ndarray:
    """The class of each of `n` targets, by name."""
    if population != "mixed":
        return np.full(n, population)
    density = np.array([MIXTURE[name] for name in TRACERS], float)
    return rng.choice(TRACERS, n, p=density / density.sum())
