"""Sources without extent: quasars and stars, as spectra of known brightness."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...units import SPEED_OF_LIGHT, desi_grid, magnitude_to_flux
from .brightness import band_maggies
from .ssp import OPTICAL, WAVELENGTH
from .stars import add_metals, hydrogen_star
from .table import Table

OBSERVED = WAVELENGTH[OPTICAL]  # Å, observed frame, 2200 to 11116: all that g, r and z see

# Stars that pass for quasars or galaxies: F to M, half of them metal-poor halo; ours.
STAR_TEMPERATURES = (3500, 8500)  # K, even in the logarithm
STAR_METALLICITY, STAR_METALLICITY_SCATTER = -0.8, 0.6  # [Fe/H], dex
STAR_VELOCITY = 120.0  # km/s, scatter along the line of sight
STAR_MAGNITUDES = (16.0, 21.0)  # r
METALLICITY_STEP = 0.25  # dex, of the spectra that are made


@dataclass(frozen=True, eq=False)
class Points(Table):
    """Sources without extent.

    Attributes:
        redshift: Of quasars, cosmological; of stars, velocity over that of light.
        flux: g, r, z in nanomaggies.
        spectrum: On the DESI grid, 1e-17 erg/s/cm²/Å, before noise.
    """

    redshift: Float[np.ndarray, "B"]
    flux: Float[np.ndarray, "B 3"]
    spectrum: Float[np.ndarray, "B L"]


def at_brightness(
    redshift: Float[np.ndarray, "B"],
    shape: Float[np.ndarray, "B W"],
    r: Float[np.ndarray, "B"],
) -> Points:
    """Spectra of any scale on `OBSERVED`, brought to AB magnitude r."""
    maggies = band_maggies(shape, OBSERVED)
    scale = 1e-9 * magnitude_to_flux(r) / maggies[:, 1]
    grid = desi_grid()
    seen = np.stack([np.interp(grid, OBSERVED, one) for one in shape])
    return Points(redshift, 1e9 * maggies * scale[:, None], 1e17 * seen * scale[:, None])


def draw_stars(n: int, rng: np.random.Generator) -> Points:
    """Stars of the Milky Way, from the closed form of `stars`."""
    cool, hot = np.log(STAR_TEMPERATURES)
    log_t = rng.uniform(cool, hot, n)
    metals = STAR_METALLICITY + STAR_METALLICITY_SCATTER * rng.standard_normal(n)
    metals = np.clip(METALLICITY_STEP * np.round(metals / METALLICITY_STEP), -2.5, 0.25)
    z = STAR_VELOCITY / SPEED_OF_LIGHT * rng.standard_normal(n)
    rest = np.empty((n, len(OBSERVED)))
    for value in np.unique(metals):
        rows = np.flatnonzero(metals == value)
        temperature = np.exp(log_t[rows])
        rest[rows] = add_metals(
            hydrogen_star(temperature, OBSERVED), temperature, float(value), OBSERVED
        )
    shape = np.stack(
        [np.interp(OBSERVED, OBSERVED * (1 + v), one) for v, one in zip(z, rest, strict=True)]
    )
    return at_brightness(z, shape, rng.uniform(*STAR_MAGNITUDES, n))
