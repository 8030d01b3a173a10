"""From spectra to what a spectrum tower reads.

Shapes: B spectra, L wavelength pixels, N bands, F features.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..survey.photometry import BAND_EDGES, FILTERS, band_fluxes, filter_fluxes
from ..survey.resample import to_grid
from ..survey.spectra import Spectra
from .redshift import ShiftDictionary
from .rest import RestSpace, rest_redshift

SOFTENING = 0.1  # nanomaggies, and 1e-17 erg/s/cm²/Å
BANDS = len(FILTERS) + len(BAND_EDGES) - 1
SETTINGS = {"filters": FILTERS, "band edges": BAND_EDGES, "softening": SOFTENING}


class SpectrumInputs(NamedTuple):
    """What a spectrum tower takes, one row a galaxy."""

    flux: Float[Tensor, "B L"]  # 1e-17 erg/s/cm²/Å, masked pixels interpolated
    ivar: Float[Tensor, "B L"]  # 0 where masked
    wavelength: Float[Tensor, "#B L"]  # Å; one row if all share a grid
    features: Float[Tensor, "B F"]  # arcsinh of band fluxes, shift, gains, at rest; F may be 0


def prepare(
    spectra: Spectra,
    dictionary: ShiftDictionary | None,
    rest: RestSpace | None = None,
    desi_grid_only: bool = False,
) -> SpectrumInputs:
    """Spectra with their band fluxes, what the dictionary says of their redshift, and their looks.

    Without a dictionary there are no features. `desi_grid_only` rebins other grids to DESI's.
    """
    if desi_grid_only:
        spectra = to_grid(spectra)
    features = np.zeros((len(spectra), 0))
    if dictionary is not None:
        shift, gains = dictionary.measure(spectra)
        parts = [band_features(spectra), shift[:, None], gains]
        if rest is not None:
            parts += (np.column_stack(rest.encode(spectra, rest_redshift(dictionary, shift))),)
        features = np.concatenate(parts, axis=1)
    return SpectrumInputs(*as_tensors(spectra), torch.from_numpy(features.astype(np.float32)))


def as_tensors(
    spectra: Spectra,
) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"], Float[Tensor, "#B L"]]:
    """Flux with masked pixels interpolated, inverse variance, and wavelength."""
    wavelength = spectra.wavelength[:1] if spectra.one_grid else spectra.wavelength
    return (
        torch.from_numpy(spectra.filled()),
        torch.from_numpy(spectra.ivar),
        torch.from_numpy(wavelength.astype(np.float32)),
    )


def band_features(spectra: Spectra) -> Float[np.ndarray, "B N"]:
    """arcsinh of fluxes through g, r, z and in 24 bands; unseen bands repeat their neighbours."""
    flux, ivar = filter_fluxes(spectra)
    filters = _fill(flux, ivar)
    bands = _fill(*band_fluxes(spectra))
    return np.arcsinh(np.concatenate([filters, bands], axis=1) / SOFTENING)


def _fill(
    flux: Float[np.ndarray, "B N"], ivar: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, "B N"]:
    """Bands without data, as at the ends of a shorter spectrum, interpolated from the others."""
    flux, bands = flux.copy(), np.arange(flux.shape[1])
    for row in np.flatnonzero((ivar == 0).any(axis=1) & (ivar > 0).any(axis=1)):
        seen = ivar[row] > 0
        flux[row] = np.interp(bands, bands[seen], flux[row, seen])
    return flux
