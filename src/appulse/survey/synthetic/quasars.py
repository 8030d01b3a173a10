"""Quasars: a power law, broad and narrow lines, blended iron, and the hydrogen in between.

The composite of Vanden Berk et al. (2001): slope and break of the continuum (section 4.1) and
equivalent widths of the lines (table 2). Scatter from quasar to quasar is ours, but for the
Baldwin (1977) effect of C IV.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...units import SPEED_OF_LIGHT
from .points import OBSERVED, Points, at_brightness

SLOPE, SLOPE_SCATTER = -1.56, 0.30  # of flux per Å below the break
RED_SLOPE, BREAK = -0.45, 4861.0 * 1.03  # above it, where hosts shine through; Å
WIDTH_SCATTER, STRENGTH_SCATTER = 0.25, 0.30  # in ln: of line widths, of equivalent widths
BALDWIN = -0.17  # power of luminosity in the equivalent width of C IV (Baldwin 1977)
IRON_STRENGTH = 0.25  # of the continuum, at the crest of blended Fe II; ours
# Mean optical depth of the forest at z: first × (1 + z)^second (Kim et al. 2007, equation 4).
FOREST = (0.0023, 3.65)
FOREST_SCATTER, FOREST_CELL = 1.2, 4  # in ln of optical depth; pixels of 45 km/s; ours
LYMAN_ALPHA, LYMAN_LIMIT = 1215.67, 911.76  # Å
REDSHIFTS = (0.4, 3.5)
PEAK, SPREAD = 1.7, 0.75  # of n(z), like DESI's (Chaussidon et al. 2023)
MAGNITUDES, COUNT_SLOPE = (17.0, 23.0), 0.30  # r; log10 of counts per magnitude


class Line(NamedTuple):
    """An emission line: vacuum wavelength in Å, equivalent width in Å, Gaussian σ in km/s."""

    wavelength: float
    width: float
    sigma: float


LINES = (
    Line(1033.0, 9.8, 2500),  # O VI
    Line(1215.7, 70.0, 2600),
    Line(1240.8, 18.0, 2600),  # N V
    Line(1305.0, 1.7, 1800),
    Line(1398.3, 8.1, 2500),  # Si IV
    Line(1549.1, 23.8, 2300),  # C IV
    Line(1640.4, 0.9, 1500),
    Line(1857.4, 0.3, 1800),
    Line(1908.7, 21.2, 2800),  # C III]
    Line(2798.8, 32.3, 1900),  # Mg II
    Line(3426.8, 0.8, 350),
    Line(3728.5, 1.6, 300),  # [O II]
    Line(3869.9, 1.4, 300),
    Line(4102.9, 5.1, 1600),
    Line(4341.7, 12.6, 1600),
    Line(4862.7, 46.2, 1700),
    Line(4960.3, 3.5, 250),
    Line(5008.2, 13.2, 250),  # [O III]
    Line(5877.2, 4.9, 1700),
    Line(6564.6, 194.5, 1600),
    Line(6733.0, 4.1, 300),
)
# Crests of blended Fe II, and the Balmer continuum under them: Å, σ in Å, relative height.
IRON = (
    (2080, 90, 0.35),
    (2420, 130, 0.9),
    (2620, 60, 0.5),
    (2950, 160, 0.7),
    (3200, 200, 0.8),
    (3500, 160, 0.55),
    (4570, 75, 0.8),
    (5190, 45, 0.5),
    (5310, 60, 0.5),
)

Quasars = Float[np.ndarray, "B"]
Spectra = Float[np.ndarray, "B W"]


def draw_quasars(n: int, rng: np.random.Generator) -> Points:
    """Quasars with the redshifts and magnitudes of DESI's."""
    z = _draw_redshift(n, rng)
    r = _draw_magnitude(n, rng)
    return at_brightness(z, _emitted(z, r, rng) * _forest(z, rng), r)


def _draw_redshift(n: int, rng: np.random.Generator) -> Quasars:
    grid = np.linspace(*REDSHIFTS, 500)
    cumulative = np.cumsum(np.exp(-(((grid - PEAK) / SPREAD) ** 2) / 2))
    cumulative = (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0])
    return np.interp(rng.random(n), cumulative, grid)


def _draw_magnitude(n: int, rng: np.random.Generator) -> Quasars:
    bright, faint = (10 ** (COUNT_SLOPE * m) for m in MAGNITUDES)
    return np.log10(bright + rng.random(n) * (faint - bright)) / COUNT_SLOPE


def _emitted(z: Quasars, r: Quasars, rng: np.random.Generator) -> Spectra:
    """Rest-frame light at the wavelengths `OBSERVED`, arbitrary scale."""
    n, rest = len(z), OBSERVED / (1 + z[:, None])
    slope = (SLOPE + SLOPE_SCATTER * rng.standard_normal(n))[:, None]
    shape = np.log(rest / BREAK)
    continuum = np.exp(np.where(shape < 0, slope, slope - SLOPE + RED_SLOPE) * shape)
    iron = np.maximum(IRON_STRENGTH * rng.lognormal(0, 0.4, n), 0)[:, None]
    relative = 1 + iron * sum(h * _gaussian((rest - c) / s) for c, s, h in IRON)
    brighter = 10 ** (-0.4 * (r - 20) * BALDWIN)
    width = rng.lognormal(0, WIDTH_SCATTER, n)
    for line in LINES:
        strength = line.width * rng.lognormal(0, STRENGTH_SCATTER, n)
        strength *= brighter if line.wavelength < 2000 else 1
        sigma = line.wavelength * line.sigma / SPEED_OF_LIGHT * width ** (line.sigma > 1000)
        height = strength / (np.sqrt(2 * np.pi) * sigma)
        relative += height[:, None] * _gaussian((rest - line.wavelength) / sigma[:, None])
    return continuum * relative


def _forest(z: Quasars, rng: np.random.Generator) -> Spectra:
    """Transmission of the intergalactic medium: Lyα of clouds on the way, and their Lyman limit.

    Optical depths are log-normal about the published mean; clouds that are thick at the limit
    follow with a mean free path that leaves a third at 880 Å.
    """
    cloud = OBSERVED / LYMAN_ALPHA  # 1 + z of absorbers
    cells = rng.standard_normal((len(z), len(OBSERVED) // FOREST_CELL + 1))
    clumps = np.repeat(cells, FOREST_CELL, axis=1)[:, : len(OBSERVED)]
    scatter = np.exp(FOREST_SCATTER * clumps - FOREST_SCATTER**2 / 2)
    first, power = FOREST
    in_front = cloud < 1 + z[:, None]
    depth = np.where(in_front, _mean_depth(first * cloud**power) * scatter, 0)
    short = np.clip(LYMAN_LIMIT - OBSERVED / (1 + z[:, None]), 0, None)
    return np.exp(-depth - short / 30)


def _mean_depth(effective: Float[np.ndarray, "W"]) -> Float[np.ndarray, "W"]:
    """Mean of log-normal optical depths that let through as much as one `effective` depth."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    scatter = np.exp(FOREST_SCATTER * nodes - FOREST_SCATTER**2 / 2)
    mean = np.geomspace(1e-4, 50, 300)
    through = np.exp(-np.outer(mean, scatter)) @ weights / weights.sum()
    return np.interp(effective, -np.log(through), mean)


def _gaussian(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.exp(-(x**2) / 2)
