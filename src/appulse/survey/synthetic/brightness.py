"""Brightness of stellar populations through DECam's g, r, z filters, by redshift.

The filters are DECam's (Flaugher et al. 2015, curves from `speclite`); the north of the Legacy
Surveys was observed with others, which this version does not imitate.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from speclite.filters import FilterResponse, load_filter

from ...units import BANDS, SPEED_OF_LIGHT
from .cosmology import luminosity_distance
from .dust import magnitudes_per_av
from .history import SSP_AGE
from .ssp import METALLICITY, WAVELENGTH, cell_of, stellar_grid
from .threads import one_thread

SOLAR_LUMINOSITY = 3.828e33  # erg/s, IAU 2015
AB_ZERO = 3.631e-20  # erg/s/cm²/Hz
TABLE_REDSHIFT = np.concatenate([np.linspace(0.005, 0.61, 60), np.arange(0.63, 1.74, 0.02)])


@cache
def filters() -> tuple[FilterResponse, ...]:
    """Filter curves in the order of `BANDS`."""
    return tuple(load_filter(f"decam2014-{band}") for band in BANDS)


def band_fluxes(
    z: Float[np.ndarray, "B"],
    metallicity: Float[np.ndarray, "B"],
    mass_fraction: Float[np.ndarray, "B A"],
    log_mass: Float[np.ndarray, "B"],
    a_v: Float[np.ndarray, "B"],
) -> Float[np.ndarray, "B 3"]:
    """Total fluxes of stellar light in nanomaggies, g, r, z; emission lines are left out.

    Dust dims each band by the mean of A(λ) over its light, which is right to .02 mag.
    """
    table = _table()
    shift, shift_part = cell_of(z, TABLE_REDSHIFT)
    metal, metal_part = cell_of(metallicity, METALLICITY)
    light = np.zeros((len(z), 2, len(BANDS)))
    for i, in_shift in ((0, 1 - shift_part), (1, shift_part)):
        for j, in_metal in ((0, 1 - metal_part), (1, metal_part)):
            cell = table[shift + i, metal + j]
            part = np.einsum("kcba,ka->kcb", cell, mass_fraction)
            light += (in_shift * in_metal)[:, None, None] * part
    magnitudes = a_v[:, None] * light[:, 1] / light[:, 0]
    area = 4 * np.pi * luminosity_distance(z) ** 2
    return light[:, 0] * 10 ** (-0.4 * magnitudes) * (10**log_mass / area)[:, None]


def band_maggies(
    flux: Float[np.ndarray, "B W"], wavelength: Float[np.ndarray, "W"]
) -> Float[np.ndarray, "B 3"]:
    """AB maggies in g, r, z of observed-frame spectra in erg/s/cm²/Å."""
    weight = np.stack([photon_weights(f, wavelength) for f in filters()], axis=1)
    return flux @ weight


@cache
def _table() -> Float[np.ndarray, "R Z 2 3 A"]:
    """Light of 1 M☉ formed by redshift, metallicity, band and age, then its A(λ)/A_V-weighted sum.

    In nanomaggies × cm²: flux times 4π D².
    """
    weight = np.stack(
        [
            [photon_weights(f, WAVELENGTH * (1 + z)) / (1 + z) for f in filters()]
            for z in TABLE_REDSHIFT
        ]
    )
    weight *= 1e9 * SOLAR_LUMINOSITY
    weight = np.stack([weight, weight * magnitudes_per_av(WAVELENGTH)], axis=1)
    luminosity = stellar_grid().luminosity
    with one_thread():
        flat = torch.from_numpy(luminosity.reshape(-1, luminosity.shape[-1]))
        flux = flat.double() @ torch.from_numpy(weight.reshape(-1, weight.shape[-1])).T
    shape = (len(METALLICITY), len(SSP_AGE), *weight.shape[:3])
    return np.ascontiguousarray(flux.numpy().reshape(shape).transpose(2, 0, 3, 4, 1))


def photon_weights(
    response: FilterResponse, observed: Float[np.ndarray, "W"]
) -> Float[np.ndarray, "W"]:
    """Weights of a spectrum in erg/s/cm²/Å in a band's AB maggies (Hogg et al. 2002, eq. 8)."""
    counts = np.interp(observed, response.wavelength, response.response, left=0, right=0)
    step = np.gradient(observed)
    reference = AB_ZERO * SPEED_OF_LIGHT * 1e13 * np.sum(counts / observed * step)
    return counts * observed * step / reference
