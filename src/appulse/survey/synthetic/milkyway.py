"""Dust of the Milky Way in front of everything.

A(λ)/E(B-V) on the scale of Schlegel, Finkbeiner & Davis (1998) for R_V = 3.1, interpolated in
1/λ between the bands of Schlafly & Finkbeiner (2011, table 6).
"""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

# SDSS u, g, r, i, z and Pan-STARRS y: effective wavelength in Å, A/E(B-V).
EXTINCTION = {3587: 4.239, 4717: 3.303, 6165: 2.285, 7476: 1.698, 8923: 1.263, 9614: 1.087}
BAND_EXTINCTION = np.array([3.214, 2.165, 1.211])  # g, r, z of DECam; legacysurvey.org, from there
MEDIAN_EBV, EBV_SCATTER = 0.04, 0.6  # mag; in ln

_CURVE = PchipInterpolator([1e4 / x for x in sorted(EXTINCTION, reverse=True)],
                           [EXTINCTION[x] for x in sorted(EXTINCTION, reverse=True)])  # fmt: skip


def draw_reddening(n: int, rng: np.random.Generator) -> Float[np.ndarray, "B"]:
    """E(B-V) in mag, log-normal, below .3, the same in all directions."""
    return np.minimum(MEDIAN_EBV * rng.lognormal(0, EBV_SCATTER, n), 0.3)


def extinction(wavelength: Float[np.ndarray, "L"]) -> Float[np.ndarray, "L"]:
    """A(λ)/E(B-V) at observed wavelengths in Å; for 3500 to 10000 Å."""
    return _CURVE(1e4 / wavelength)


def band_transmission(ebv: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B 3"]:
    """Fraction of light that comes through in g, r, z."""
    return 10 ** (-0.4 * ebv[:, None] * BAND_EXTINCTION)
