"""Galaxies that a survey selects, and the histories of their stars.

Shapes of the relations follow the literature where named; their numbers are ad hoc, tuned so
that redshift, mass, colour and brightness spread as in DESI's bright galaxy survey (Hahn et al.
2023): r < 19.5, z ≈ .03-.36, log M ≈ 10.2-11.2. docs/survey.md lists them all.
"""

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from ...units import flux_to_magnitude
from . import cosmology
from .brightness import band_fluxes
from .history import by_population, log_ssfr, log_ssfr_recent, mass_fractions, mean_age
from .table import Table
from .targets import BGS
from .targets import Galaxies as Selection

# Baldry et al. (2012): knee at 10.66, here of mass formed and for Kroupa's stars; number, slope.
MASS_KNEE, MASS_FUNCTION = 10.95, ((3.96, -0.35), (0.79, -1.47))
QUENCHING_MASS, QUENCHING_WIDTH = 10.75, 0.33  # dex, at z = 0: where half have stopped
# log10 of τ/Gyr of star-forming and of quiescent galaxies at log M = 10.5, fall per dex, scatter.
SLOW_TIMESCALE, FAST_TIMESCALE = (0.46, 0.35, 0.24), (-0.02, 0.15, 0.22)
BURST_SCATTER, BURST_FRACTION, BURST = 0.22, 0.04, 4  # dex about the sequence; bursts, their factor
TRICKLE = -13.2  # log10 of star formation that never stops, 1/yr of the mass formed
METALLICITY_PLATEAU, METALLICITY_SCATTER = 0.0, 0.17  # [Z/H] of massive galaxies; dex
METALLICITY_EVOLUTION = 0.1  # dex per redshift, of star-forming galaxies
DUST_AT_PIVOT, DUST_SLOPE, DUST_SCATTER = 0.31, 0.26, 0.35  # mag at log M = 10; dex/dex; in ln
QUIESCENT_DUST = 0.045  # mag, scale of a gamma distribution of shape 1.5
PROPOSALS = 2048  # drawn at once; about one in twenty passes the limit of `BGS`

Galaxies = Float[np.ndarray, "B"]


@dataclass(frozen=True, eq=False)
class Population(Table):
    """What a galaxy is, apart from its looks.

    Attributes:
        redshift: Cosmological; no peculiar velocities.
        log_mstar: log10 of the mass *formed*, M☉.
        quiescent: True for galaxies that stopped forming stars.
        mass_fraction: Of the mass formed, by age of stars, `history.SSP_AGE`.
        log_ssfr: log10 of star formation over the last 1 Gyr per mass formed, 1/yr.
        log_ssfr_recent: The same over the last .1 Gyr.
        age: Mass-weighted, Gyr.
        log_zsol: [Z/H] of the stars, dex.
        a_v: Attenuation of starlight in V, mag.
        inclination: Of the disk, radian; 0 is face-on.
        flux: Total g, r, z in nanomaggies.
    """

    redshift: Galaxies
    log_mstar: Galaxies
    quiescent: Bool[np.ndarray, "B"]
    mass_fraction: Float[np.ndarray, "B A"]
    log_ssfr: Galaxies
    log_ssfr_recent: Galaxies
    age: Galaxies
    log_zsol: Galaxies
    a_v: Galaxies
    inclination: Galaxies
    flux: Float[np.ndarray, "B 3"]


def draw_population(n: int, rng: np.random.Generator, target: Selection = BGS) -> Population:
    """The first `n` galaxies of the universe that pass the target's cuts."""
    kept: list[Population] = []
    while sum(len(part.redshift) for part in kept) < n:
        galaxies = _propose(PROPOSALS, target, rng)
        passes = target.passes(*flux_to_magnitude(galaxies.flux).T)
        kept.append(galaxies[np.flatnonzero(passes)])
    columns = {f.name: [getattr(part, f.name) for part in kept] for f in fields(Population)}
    return Population(**{name: np.concatenate(parts)[:n] for name, parts in columns.items()})


def _propose(n: int, target: Selection, rng: np.random.Generator) -> Population:
    z, log_mass = _draw_redshift(n, target, rng), _draw_log_mass(n, target, rng)
    fading = 1 / (1 + np.exp(-(log_mass - QUENCHING_MASS + 0.6 * z) / QUENCHING_WIDTH))
    quiescent = rng.random(n) < 0.92 * fading + 0.02
    history = _draw_history(z, log_mass, quiescent, rng)
    mass_fraction = by_population(history)
    log_zsol = _draw_metallicity(z, log_mass, quiescent, rng)
    inclination = np.arccos(rng.random(n))
    a_v = _draw_dust(log_mass, quiescent, inclination, rng)
    return Population(
        redshift=z,
        log_mstar=log_mass,
        quiescent=quiescent,
        mass_fraction=mass_fraction,
        log_ssfr=log_ssfr(history),
        log_ssfr_recent=log_ssfr_recent(history),
        age=mean_age(mass_fraction),
        log_zsol=log_zsol,
        a_v=a_v,
        inclination=inclination,
        flux=band_fluxes(z, log_zsol, mass_fraction, log_mass, a_v),
    )


def _draw_redshift(n: int, target: Selection, rng: np.random.Generator) -> Galaxies:
    """Even in comoving volume."""
    grid, cumulative = _redshift_distribution(target)
    return np.interp(rng.random(n), cumulative, grid)


@cache
def _redshift_distribution(target: Selection) -> tuple[Galaxies, Galaxies]:
    grid = np.linspace(*target.redshift, 1000)
    return grid, _cumulative(cosmology.volume_density(grid))


def _draw_log_mass(n: int, target: Selection, rng: np.random.Generator) -> Galaxies:
    """Two Schechter (1976) functions with one knee, that do not evolve."""
    grid, cumulative = _mass_distribution(target)
    return np.interp(rng.random(n), cumulative, grid)


@cache
def _mass_distribution(target: Selection) -> tuple[Galaxies, Galaxies]:
    grid = np.linspace(*target.log_mass, 1000)
    mass = 10 ** (grid - MASS_KNEE)
    density = sum(number * mass ** (1 + slope) for number, slope in MASS_FUNCTION)
    return grid, _cumulative(density * np.exp(-mass))


def _cumulative(density: Galaxies) -> Galaxies:
    total = np.cumsum(density) - density[0]
    return total / total[-1]


def _draw_history(
    z: Galaxies, log_mass: Galaxies, quiescent: Bool[np.ndarray, "B"], rng: np.random.Generator
) -> Float[np.ndarray, "B S"]:
    """Massive galaxies start earlier and run faster; quiescent ones stop at some time.

    A trickle keeps the rate of dead galaxies above zero.
    """
    n = len(z)
    above = log_mass - 10.5
    first = 0.86 + 0.03 * above + 0.07 * rng.standard_normal(n)
    start = cosmology.age_of_universe(z) * np.clip(first, 0.35, 0.98)
    slow, fast = (
        at_pivot - slope * above + scatter * rng.standard_normal(n)
        for at_pivot, slope, scatter in (SLOW_TIMESCALE, FAST_TIMESCALE)
    )
    timescale = np.clip(10 ** np.where(quiescent, fast, slow), 0.15, 12)
    quenched = np.where(quiescent, 0.95 * start * rng.beta(1.6, 2.0, n), 0)
    bursting = np.where(rng.random(n) < BURST_FRACTION, BURST, 1)
    burst = 10 ** (BURST_SCATTER * rng.standard_normal(n)) * bursting
    residual = 10 ** (TRICKLE + 0.35 * rng.standard_normal(n))
    return mass_fractions(start, timescale, quenched, burst, residual)


def _draw_metallicity(
    z: Galaxies, log_mass: Galaxies, quiescent: Bool[np.ndarray, "B"], rng: np.random.Generator
) -> Galaxies:
    """Mass-metallicity relation of stars, in the manner of Gallazzi et al. (2005).

    Scatter beyond 2.5 σ is drawn again, which keeps all galaxies inside the stellar grid
    without a pile-up at its edge.
    """
    mean = METALLICITY_PLATEAU - 0.42 * np.log1p(np.exp(-1.5 * (log_mass - 10.05)))
    mean += np.where(quiescent, 0.05, -0.05 - METALLICITY_EVOLUTION * z)
    return mean + METALLICITY_SCATTER * _truncated_normal(len(mean), rng)


def _truncated_normal(n: int, rng: np.random.Generator, limit: float = 2.5) -> Galaxies:
    value = rng.standard_normal(n)
    while len(outside := np.flatnonzero(np.abs(value) > limit)):
        value[outside] = rng.standard_normal(len(outside))
    return value


def _draw_dust(
    log_mass: Galaxies,
    quiescent: Bool[np.ndarray, "B"],
    inclination: Galaxies,
    rng: np.random.Generator,
) -> Galaxies:
    """A_V grows with mass and, in disks, with the path through an inclined slab."""
    n = len(log_mass)
    path = np.sqrt(1 / np.clip(np.cos(inclination), 0.2, 1))
    mean = DUST_AT_PIVOT * 10 ** (DUST_SLOPE * (log_mass - 10))
    dusty = mean * rng.lognormal(0, DUST_SCATTER, n) * path
    return np.where(quiescent, QUIESCENT_DUST * rng.gamma(1.5, 1, n), np.clip(dusty, 0, 2.6))
