"""Star-formation histories: which part of a galaxy's mass formed how long ago."""

import numpy as np
from jaxtyping import Float

STEP = 0.35  # Gyr; histories are followed in steps no longer than this
# Gyr, of the stellar populations that give light: every .1 dex, coarser among massive stars.
SSP_AGE = np.concatenate([[0.003, 0.01, 0.025], 10 ** np.linspace(-1.25, 1.15, 25)])

# Gyr before the galaxy is seen; edges lie at .1 and 1 Gyr, so that star-formation rates over
# these times are sums over whole steps.
_LOG_EDGE = np.round(10 ** np.linspace(-1.2, 0.2, 15), 6)
AGE_EDGE = np.concatenate(
    [[0.0, 0.006, 0.016, 0.035], _LOG_EDGE[:-1], np.arange(_LOG_EDGE[-1], 15.8 + STEP, STEP)]
)
AGE = (AGE_EDGE[1:] + AGE_EDGE[:-1]) / 2
RECENT = AGE < 0.1
RECENT_YEARS = 1e8
LAST_GYR = AGE < 1.0  # what PROVABGS averages star formation over (Hahn et al. 2023)

QUENCHING_TIME = 0.25  # Gyr, e-folding of star formation after quenching

Galaxies = Float[np.ndarray, "B"]
MassFractions = Float[np.ndarray, "B S"]  # by step


def mass_fractions(
    start: Galaxies, timescale: Galaxies, quenched: Galaxies, burst: Galaxies, residual: Galaxies
) -> MassFractions:
    """Mass formed in each step, as a fraction of all: a delayed-τ history with extras.

    Args:
        start: Gyr since the first stars.
        timescale: τ of t exp(-t/τ), Gyr.
        quenched: Gyr since star formation began to fade; 0 if it goes on.
        burst: Factor on the star formation of the last .1 Gyr.
        residual: Star formation of the last 1 Gyr that never stops, 1/yr of the total mass.
    """
    time = np.maximum(start[:, None] - AGE_EDGE, 0) / timescale[:, None]
    mass = np.diff((1 + time) * np.exp(-time), axis=1)  # the integral of t exp(-t)
    mass *= np.exp(np.minimum(AGE - quenched[:, None], 0) / QUENCHING_TIME)
    mass[:, RECENT] *= burst[:, None]
    mass /= mass.sum(axis=1, keepdims=True)
    mass[:, LAST_GYR] += residual[:, None] * 1e9 * np.diff(AGE_EDGE)[LAST_GYR]
    return mass / mass.sum(axis=1, keepdims=True)


def log_ssfr(fraction: MassFractions) -> Galaxies:
    """Log of star formation per year over the last 1 Gyr, per mass formed."""
    return np.log10(fraction[:, LAST_GYR].sum(axis=1) / 1e9)


def log_ssfr_recent(fraction: MassFractions) -> Galaxies:
    """The same over the last .1 Gyr, which emission lines follow."""
    return np.log10(fraction[:, RECENT].sum(axis=1) / RECENT_YEARS)


def by_population(fraction: MassFractions) -> Float[np.ndarray, "B A"]:
    """The same mass in stellar populations of the ages `SSP_AGE`.

    Each step is shared between the two nearest ages so that its mean age is kept; light then
    changes smoothly with age, and the mass-weighted age follows from the light's own weights.
    """
    return fraction @ _SHARES


def mean_age(population: Float[np.ndarray, "B A"]) -> Galaxies:
    """Mass-weighted age of the stars in Gyr."""
    return population @ SSP_AGE


def _shares() -> Float[np.ndarray, "S A"]:
    """Linear interpolation in age; steps beyond the first and last age belong to these."""
    return np.stack([np.interp(AGE, SSP_AGE, row) for row in np.eye(len(SSP_AGE))], axis=1)


_SHARES = _shares()
