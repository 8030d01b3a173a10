"""Dust attenuation of starburst galaxies (Calzetti et al. 2000, equation 4)."""

import numpy as np
from jaxtyping import Float

R_V = 4.05


def calzetti(wavelength: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Attenuation k = A/E(B-V) at rest wavelengths in Å; valid from 1200 to 22000 Å.

    The published pieces meet at 6300 Å with a step of .03.
    """
    x = wavelength / 1e4
    blue = -2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3
    red = -1.857 + 1.040 / x
    return 2.659 * np.where(x < 0.63, blue, red) + R_V


def magnitudes_per_av(wavelength: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """A(λ)/A_V at rest wavelengths in Å."""
    return calzetti(wavelength) / R_V


def transmission(
    wavelength: Float[np.ndarray, "*#B"], a_v: Float[np.ndarray, "*#B"]
) -> Float[np.ndarray, "*B"]:
    """Fraction of light that leaves the galaxy, for A_V in magnitudes."""
    return 10 ** (-0.4 * a_v * magnitudes_per_av(wavelength))
