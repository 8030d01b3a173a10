"""Galaxies of a magnitude-limited survey and the histories of their stars.

Shapes of the relations follow the literature where named; their numbers are ad hoc, tuned so
that redshift, mass, colour and brightness spread as in DESI's bright galaxy survey (Hahn et al.
2023): r < 19.5, z ≈ .03-.36, log M ≈ 10.2-11.2.
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

FAINT_LIMIT, BRIGHT_LIMIT = 19.5, 13.5  # AB magnitude in r
PROPOSALS = 2048  # drawn at once; about one in nine passes the limit

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


def draw_population(n: int, rng: np.random.Generator) -> Population:
    """The first `n` galaxies of the universe that pass the survey's limits in r."""
    kept: list[Population] = []
    while sum(len(part.redshift) for part in kept) < n:
        galaxies = _propose(PROPOSALS, rng)
        r = flux_to_magnitude(galaxies.flux[:, 1])
        kept.append(galaxies[np.flatnonzero((r < FAINT_LIMIT) & (r > BRIGHT_LIMIT))])
    columns = {f.name: [getattr(part, f.name) for part in kept] for f in fields(Population)}
    return Population(**{name: np.concatenate(parts)[:n] for name, parts in columns.items()})


def _propose(n: int, rng: np.random.Generator) -> Population:
    z, log_mass = _draw_redshift(n, rng), _draw_log_mass(n, rng)
    fading = 1 / (1 + np.exp(-(log_mass - 10.75 + 0.6 * z) / 0.33))
    quiescent = rng.random(n) < 0.92 * fading + 0.02
    history = _draw_history(z, log_mass, quiescent, rng)
    mass_fraction = by_population(history)
    log_zsol = _draw_metallicity(log_mass, quiescent, rng)
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


def _draw_redshift(n: int, rng: np.random.Generator) -> Galaxies:
    """From .01 to .6; nearer than the volume has it, since faint galaxies are seen only there."""
    grid, cumulative = _redshift_distribution()
    return np.interp(rng.random(n) ** 1.15, cumulative, grid)


@cache
def _redshift_distribution() -> tuple[Galaxies, Galaxies]:
    grid = np.linspace(0.01, 0.6, 1000)
    cumulative = np.cumsum(cosmology.volume_density(grid) / (1 + 3 * grid) ** 2)
    cumulative -= cumulative[0]
    return grid, cumulative / cumulative[-1]


def _draw_log_mass(n: int, rng: np.random.Generator) -> Galaxies:
    """A Schechter (1976) function times a power of mass that spends fewer draws on dwarfs."""
    grid, cumulative = _mass_distribution()
    return np.interp(rng.random(n), cumulative, grid)


@cache
def _mass_distribution() -> tuple[Galaxies, Galaxies]:
    grid = np.linspace(8, 12.1, 1000)
    density = 10 ** (0.55 * (grid - 10.8)) * np.exp(-(10 ** (grid - 10.8))) + 0.002
    cumulative = np.cumsum(density)
    cumulative -= cumulative[0]
    return grid, cumulative / cumulative[-1]


def _draw_history(
    z: Galaxies, log_mass: Galaxies, quiescent: Bool[np.ndarray, "B"], rng: np.random.Generator
) -> Float[np.ndarray, "B S"]:
    """Massive galaxies start earlier and run faster; quiescent ones stop at some time.

    A trickle of 10^-12.2 per year keeps the rate of dead galaxies above zero.
    """
    n = len(z)
    first = 0.86 + 0.03 * (log_mass - 10.5) + 0.07 * rng.standard_normal(n)
    start = cosmology.age_of_universe(z) * np.clip(first, 0.35, 0.98)
    slow = 0.62 - 0.30 * (log_mass - 10) + 0.25 * rng.standard_normal(n)
    fast = 0.05 - 0.15 * (log_mass - 10.5) + 0.22 * rng.standard_normal(n)
    timescale = np.clip(10 ** np.where(quiescent, fast, slow), 0.15, 12)
    quenched = np.where(quiescent, 0.95 * start * rng.beta(1.6, 2.0, n), 0)
    burst = 10 ** (0.28 * rng.standard_normal(n)) * np.where(rng.random(n) < 0.04, 4, 1)
    residual = 10 ** (-12.2 + 0.35 * rng.standard_normal(n))
    return mass_fractions(start, timescale, quenched, burst, residual)


def _draw_metallicity(
    log_mass: Galaxies, quiescent: Bool[np.ndarray, "B"], rng: np.random.Generator
) -> Galaxies:
    """Mass-metallicity relation of stars, in the manner of Gallazzi et al. (2005).

    Scatter beyond 2.5 σ is drawn again, which keeps all galaxies inside the stellar grid
    without a pile-up at its edge.
    """
    mean = 0.12 - 0.42 * np.log1p(np.exp(-1.5 * (log_mass - 10.05)))
    return mean + np.where(quiescent, 0.05, -0.05) + 0.14 * _truncated_normal(len(mean), rng)


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
    dusty = 0.30 * 10 ** (0.25 * (log_mass - 10)) * rng.lognormal(0, 0.35, n) * path
    return np.where(quiescent, 0.12 * rng.gamma(1.5, 0.6, n), np.clip(dusty, 0, 2.6))
