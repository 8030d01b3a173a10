"""Brightness in g, r, z with errors, from tables and from images.

Shapes: B galaxies; the last axis of 3 is g, r, z.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..units import BANDS, magnitude_to_flux
from .catalogue import read_columns
from .images import Images
from .photometry import aperture_fluxes
from .positions import ID_NAMES, find, positions_of
from .rows import require_rows

RADIUS = 6.0  # arcsec: the aperture that stands for a galaxy's whole light
SOFTENING = 0.1  # nanomaggies, below which asinh magnitudes turn linear
LAYOUTS = {"flux_ivar": "flux", "flux_err": "flux", "mag_err": "mag"}  # errors of what


@dataclass(frozen=True, eq=False)
class Fluxes:
    """Fluxes of galaxies through g, r, z, as observed: not corrected for Galactic dust.

    Attributes:
        ids: Names, shape (B,).
        flux: Nanomaggies, NaN where unknown.
        error: Standard deviations of `flux`, positive.
    """

    ids: np.ndarray
    flux: Float[np.ndarray, "B _"]
    error: Float[np.ndarray, "B _"]

    def __post_init__(self) -> None:
        n = len(self.flux)
        require_rows(n, ids=self.ids)
        if self.flux.shape != (n, 3) or self.error.shape != (n, 3):
            raise ValueError(
                f"fluxes have shape {self.flux.shape} and errors {self.error.shape}; expected one "
                f"row for each of {len(self.ids)} galaxies, with bands {', '.join(BANDS)}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def measure(cls, images: Images) -> "Fluxes":
        """What is inside 6″ of each image's centre, with the noise of its sky."""
        flux = aperture_fluxes(images, (RADIUS,))[:, :, 0].astype(np.float64)
        area = np.pi * (RADIUS / images.pixel_scale) ** 2
        return cls(images.ids, flux, _sky_noise(images) * area[:, None] ** 0.5)

    @classmethod
    def concatenate(cls, parts: Sequence["Fluxes"]) -> "Fluxes":
        """All rows, in order."""
        columns = zip(*((part.ids, part.flux, part.error) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    @classmethod
    def read(cls, path: str | Path) -> "Fluxes":
        """Fluxes or magnitudes of a table in FITS, HDF5, Parquet, ECSV or CSV.

        Columns, whatever their case: an id, and for each band `flux_g` in nanomaggies with
        `flux_ivar_g` (as the Legacy Surveys have them) or `flux_err_g`, or `mag_g`, AB, with
        `mag_err_g`.

        Raises:
            ValueError: If they are not there.
        """
        table = read_columns(Path(path), lambda names: _layout(names, path)[1])
        kind, (_, *names) = _layout(list(table), path)
        value, spread = np.split(np.stack([table[name] for name in names], 1).astype(float), 2, 1)
        if kind == "flux_ivar":
            spread = np.where(spread > 0, np.abs(spread), np.nan) ** -0.5
        if kind == "mag_err":
            value = magnitude_to_flux(value)
            spread = value * spread * np.log(10) / 2.5
        return cls(positions_of(table).ids, value, spread)

    def noisier(self, relative: Float[np.ndarray, "B"], seed: int = 0) -> "Fluxes":
        """With Gaussian noise of this size, relative to the flux, on top.

        The errors are relative to the noisy flux, as a catalogue quotes them: those of the true one
        would give away the colours without noise.
        """
        noise = np.random.default_rng(seed).standard_normal(self.flux.shape)
        flux = self.flux + relative[:, None] * np.abs(self.flux) * noise
        return Fluxes(self.ids, flux, np.hypot(self.error, relative[:, None] * np.abs(flux)))

    def features(self) -> Float[np.ndarray, "B 6"]:
        """Asinh magnitudes (Lupton et al. 1999) without their zero point, and log10 S/N.

        A galaxy that lacks a band, or its error, is NaN throughout.
        """
        with np.errstate(invalid="ignore"):
            known = (np.isfinite(self.flux) & (self.error > 0) & np.isfinite(self.error)).all(1)
        flux, error = (np.where(known[:, None], a, np.nan) for a in (self.flux, self.error))
        brightness = np.arcsinh(flux / SOFTENING)
        return np.hstack([brightness, np.log10(np.hypot(flux, error) / error)])


def _layout(names: Sequence[str], path: str | Path) -> tuple[str, list[str]]:
    """How a table gives its errors, and the names of its id, its brightness and its errors."""
    ids = find(names, ID_NAMES)
    for error, value in LAYOUTS.items():
        wanted = [f"{what}_{band}" for what in (value, error) for band in BANDS]
        found = [find(names, [name]) for name in wanted]
        if ids and all(found):
            return error, [ids, *(name for name in found if name)]
    raise ValueError(
        f"{path} has no photometry: expected an id ({', '.join(ID_NAMES)}) and flux_g, flux_r, "
        "flux_z with flux_ivar_g … or flux_err_g …, or mag_g … with mag_err_g …; "
        f"its columns are {', '.join(names)}"
    )


def _sky_noise(images: Images) -> Float[np.ndarray, "B 3"]:
    """Standard deviation of a pixel, from differences between neighbours: galaxies are smoother."""
    known = np.where(images.mask, np.nan, images.flux)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of bands unseen
        typical = np.nanmedian(np.abs(np.diff(known, axis=3)), axis=(2, 3))
    return typical / (0.6745 * 2**0.5)
