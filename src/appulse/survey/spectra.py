"""Spectra of galaxies: `Spectra`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ..units import FLUX_UNIT, desi_grid
from .positions import places
from .rows import as_index, default_ids, mostly_masked, require_rows


@dataclass(frozen=True, eq=False)
class Spectra:
    """One-dimensional spectra, one row a galaxy; build with `from_arrays` or `read_spectra`.

    Attributes:
        ids: Names, shape (B,).
        wavelength: Å, vacuum, observed frame, increasing along each row.
        flux: 1e-17 erg/s/cm²/Å.
        ivar: Inverse variance of `flux`; 0 where masked.
        mask: True where a pixel must not be trusted; flux and ivar are 0 there.
        ra, dec: ICRS degrees, NaN where unknown.
    """

    ids: np.ndarray
    wavelength: Float[np.ndarray, "B L"]
    flux: Float32[np.ndarray, "B L"]
    ivar: Float32[np.ndarray, "B L"]
    mask: Bool[np.ndarray, "B L"]
    ra: Float[np.ndarray, "B"]
    dec: Float[np.ndarray, "B"]

    def __post_init__(self) -> None:
        if self.flux.ndim != 2 or self.flux.size == 0:
            raise ValueError(f"spectra have shape {self.flux.shape}; expected (B, L), neither 0")
        for name in ("wavelength", "ivar", "mask"):
            if getattr(self, name).shape != self.flux.shape:
                raise ValueError(
                    f"{name} has shape {getattr(self, name).shape}, flux {self.flux.shape}; "
                    "expected the same"
                )
        require_rows(len(self.flux), ids=self.ids, ra=self.ra, dec=self.dec)

    @classmethod
    def from_arrays(
        cls,
        flux: Any,
        *,
        wavelength: Any = None,
        ivar: Any = None,
        mask: Any = None,
        ids: Any = None,
        ra: Any = np.nan,
        dec: Any = np.nan,
        unit: str = FLUX_UNIT,
    ) -> "Spectra":
        """Spectra from arrays of shape (B, L); wavelength and ivar may be shared, shape (L,).

        Args:
            wavelength: Å, vacuum; the DESI grid if left out.
            ivar: Inverse variance; if left out, each row's noise is taken to be white, with the
                variance estimated from differences of pixels two apart.
            mask: True for bad pixels; non-finite flux and ivar <= 0 are masked anyway.
            unit: Unit of `flux`, any string astropy reads as a flux density per wavelength.

        Raises:
            ValueError: On wrong shapes or units, wavelengths that do not increase, or rows with
                more than half of the pixels masked.
        """
        flux = np.array(flux, dtype=np.float32)
        if flux.ndim != 2:
            raise ValueError(f"spectra have shape {flux.shape}; expected (B, L)")
        scale = _flux_scale(unit)
        flux *= scale
        ivar = _white_noise_ivar(flux) if ivar is None else np.asarray(ivar) / scale**2
        ivar = np.array(np.broadcast_to(ivar, flux.shape), dtype=np.float32)
        bad = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0))
        if mask is not None:
            bad |= np.asarray(mask, bool)
        flux[bad], ivar[bad] = 0, 0
        n = len(flux)
        ra, dec = places(ra, dec, n)
        spectra = cls(
            ids=default_ids(n) if ids is None else np.asarray(ids).astype(str),
            wavelength=_wavelengths(wavelength, flux.shape),
            flux=flux,
            ivar=ivar,
            mask=bad,
            ra=ra,
            dec=dec,
        )
        mostly_masked(spectra.ids, spectra.mask, "spectrum")
        return spectra

    @classmethod
    def from_specutils(
        cls, spectrum: Any, *, ids: Any = None, ra: Any = np.nan, dec: Any = np.nan
    ) -> "Spectra":
        """Spectra from a `specutils.Spectrum`, one or several on one axis, in any units.

        Wavelengths are taken as observed, and as in vacuum unless `meta` or its `header` says
        air (see `appulse.survey.air.is_air`); frequencies become wavelengths.

        Raises:
            ValueError: On units that are no spectral axis or flux density, and as `from_arrays`.
        """
        from .quantities import from_spectrum

        return cls.from_arrays(**from_spectrum(spectrum), ids=ids, ra=ra, dec=dec)

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Any) -> "Spectra":
        """The rows named by a slice, an index or an array; one row stays a batch of one."""
        index = as_index(rows, len(self))
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self)}
        if self.one_grid:
            arrays["wavelength"] = np.broadcast_to(self.wavelength[0], arrays["flux"].shape)
        return replace(self, **arrays)

    @classmethod
    def concatenate(cls, parts: Sequence["Spectra"]) -> "Spectra":
        """All rows of several `Spectra` of one length, in order."""
        lengths = {part.flux.shape[1] for part in parts}
        if len(lengths) != 1:
            raise ValueError(
                f"cannot concatenate spectra of lengths {sorted(lengths)}; rebin to one grid first"
            )
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name != "wavelength"
        }
        return cls(**arrays, wavelength=_concatenated_wavelengths(parts))

    @property
    def one_grid(self) -> bool:
        """Whether all rows are views of one grid, which takes 8 L bytes instead of 8 B L."""
        return self.wavelength.strides[0] == 0

    def by_grid(self) -> Iterator[tuple[slice | Int[np.ndarray, "N"], Float[np.ndarray, "L"]]]:
        """Rows that share a wavelength grid, with the grid."""
        first = self.wavelength[0]
        if self.one_grid or (self.wavelength == first).all():
            yield slice(None), first
            return
        grids, group = np.unique(self.wavelength, axis=0, return_inverse=True)
        for i, grid in enumerate(grids):
            yield np.flatnonzero(group == i), grid

    def filled(self) -> Float[np.ndarray, "B L"]:
        """Flux with masked pixels interpolated linearly in wavelength, for a network's eyes.

        It is `flux` itself where nothing is masked.
        """
        if not self.mask.any():
            return self.flux
        flux = self.flux.copy()
        for row in np.flatnonzero(self.mask.any(axis=1)):
            bad, grid = self.mask[row], self.wavelength[row]
            flux[row, bad] = np.interp(grid[bad], grid[~bad], flux[row, ~bad])
        return flux


def _flux_scale(unit: str) -> float:
    """Factor from `unit` to 1e-17 erg/s/cm²/Å."""
    if unit == FLUX_UNIT:
        return 1.0
    from astropy import units

    try:
        return float(units.Unit(unit).to(units.Unit(FLUX_UNIT)))
    except (ValueError, units.UnitConversionError) as error:
        raise ValueError(
            f"flux unit {unit!r} is not a flux density per wavelength; expected something like "
            f"{FLUX_UNIT!r}"
        ) from error


def _white_noise_ivar(flux: Float[np.ndarray, "B L"]) -> Float[np.ndarray, "B 1"]:
    """Inverse variance of each row from pixels two apart (DER_SNR, Stoehr et al. 2008)."""
    flux = np.where(np.isfinite(flux), flux, np.nan)
    second = np.abs(2 * flux[:, 2:-2] - flux[:, :-4] - flux[:, 4:])
    second[np.isnan(second).all(axis=1)] = 0
    sigma = 1.482602 / np.sqrt(6) * np.nanmedian(second, axis=1, keepdims=True)
    return 1 / np.maximum(sigma, 1e-6) ** 2


def _concatenated_wavelengths(parts: Sequence[Spectra]) -> Float[np.ndarray, "B L"]:
    first = parts[0].wavelength[0]
    if all(part.one_grid and np.array_equal(part.wavelength[0], first) for part in parts):
        return np.broadcast_to(first, (sum(map(len, parts)), len(first)))
    return np.concatenate([part.wavelength for part in parts])


def _wavelengths(wavelength: Any, shape: tuple[int, int]) -> Float[np.ndarray, "B L"]:
    if wavelength is None:
        wavelength = desi_grid()
        if shape[1] != len(wavelength):
            raise ValueError(
                f"spectra have {shape[1]} pixels, the DESI grid {len(wavelength)}; pass wavelength="
            )
    grid = np.asarray(wavelength, dtype=np.float64)
    if grid.shape not in (shape, shape[1:]):
        raise ValueError(f"wavelength has shape {grid.shape}; expected {shape} or {shape[1:]}")
    if not (np.diff(grid, axis=-1) > 0).all():
        raise ValueError("wavelength must increase along each row, in Å, and be finite")
    return np.broadcast_to(grid, shape)
