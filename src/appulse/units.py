"""Grids, bands and units that the whole package shares."""

import numpy as np
from jaxtyping import Float

BANDS = ("g", "r", "z")
PIXEL_SCALE = 0.262  # arcsec per pixel of a Legacy Surveys cutout
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
SPEED_OF_LIGHT = 299_792.458  # km/s

DESI_START, DESI_STEP, DESI_PIXELS = 3600.0, 0.8, 7781


def desi_grid() -> Float[np.ndarray, "7781"]:
    """Wavelengths of DESI's coadded spectra, 3600-9824 Å in vacuum, observed frame."""
    return DESI_START + DESI_STEP * np.arange(DESI_PIXELS)


def flux_to_magnitude(flux: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """AB magnitude of a flux in nanomaggies; NaN where the flux is not positive."""
    return 22.5 - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def magnitude_to_flux(magnitude: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Flux in nanomaggies of an AB magnitude."""
    return 10 ** (0.4 * (22.5 - magnitude))
