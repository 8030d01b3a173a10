"""Star-formation histories: which part of a galaxy's mass formed how long ago."""

import numpy as np
from jaxtyping import Float

# Ages in Gyr before the galaxy is seen; an edge lies at .1 Gyr, so that the recent star-formation
# rate is a sum over whole bins.
AGE_EDGE = np.concatenate([[0.0], 10 ** np.linspace(-1.2, 1.2, 25)])
AGE = (AGE_EDGE[1:] + AGE_EDGE[:-1]) / 2
SSP_AGE = 10 ** np.linspace(-1.25, 1.15, 25)  # geometric middle of the bins
RECENT = AGE < 0.1
RECENT_YEARS = 1e8

QUENCHING_TIME = 0.25  # Gyr, e-folding of star formation after quenching

Galaxies = Float[np.ndarray, "B"]
MassFractions = Float[np.ndarray, "B A"]


def mass_fractions(
    start: Galaxies, timescale: Galaxies, quenched: Galaxies, burst: Galaxies, residual: Galaxies
) -> MassFractions:
    """Mass formed in each age bin, as a fraction of all: a delayed-τ history with extras.

    Args:
        start: Gyr since the first stars.
        timescale: τ of t exp(-t/τ), Gyr.
        quenched: Gyr since star formation began to fade; 0 if it goes on.
        burst: Factor on the star formation of the last .1 Gyr.
        residual: Star formation of the last .1 Gyr that never stops, 1/yr of the total mass.
    """
    time = np.maximum(start[:, None] - AGE, 0)
    rate = time * np.exp(-time / timescale[:, None])
    rate *= np.exp(np.minimum(AGE - quenched[:, None], 0) / QUENCHING_TIME)
    rate[:, RECENT] *= burst[:, None]
    mass = rate * np.diff(AGE_EDGE)
    mass /= mass.sum(axis=1, keepdims=True)
    mass[:, RECENT] += residual[:, None] * 1e9 * np.diff(AGE_EDGE)[RECENT]
    return mass / mass.sum(axis=1, keepdims=True)


def log_ssfr(fraction: MassFractions) -> Galaxies:
    """Log of star formation per year over the last .1 Gyr, per mass formed."""
    return np.log10(fraction[:, RECENT].sum(axis=1) / RECENT_YEARS)


def mean_age(fraction: MassFractions) -> Galaxies:
    """Mass-weighted age of the stars in Gyr."""
    return fraction @ AGE
