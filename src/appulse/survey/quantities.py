"""Spectra with units: astropy quantities, their tables, and what specutils holds."""

from typing import Any

import numpy as np
from astropy import units
from astropy.nddata import InverseVariance

from ..units import FLUX_UNIT
from .air import is_air, to_vacuum

Arrays = dict[str, Any]  # arguments of `Spectra.from_arrays`


def from_quantities(
    flux: units.Quantity,
    axis: units.Quantity,
    ivar: units.Quantity | None = None,
    mask: Any = None,
    *,
    air: bool = False,
) -> Arrays:
    """Flux in 1e-17 erg/s/cm²/Å over vacuum wavelengths in Å, blue pixels first.

    Args:
        flux: Flux density per wavelength or frequency, shape (L,) or (B, L).
        axis: Wavelengths, frequencies or photon energies, shape (L,).
        ivar: Inverse variance of `flux`, same shape.
        mask: True for bad pixels, same shape.
        air: Whether wavelengths are in air; frequencies and energies never are.

    Raises:
        ValueError: On units of something else (astropy's UnitConversionError is one).
    """
    if axis.ndim != 1 or flux.shape[-1] != len(axis):
        raise ValueError(f"flux has shape {flux.shape}, wavelengths {axis.shape}; expected (L,)")
    wavelength = axis.to_value(units.AA, units.spectral())
    if air and axis.unit.is_equivalent(units.AA):
        wavelength = to_vacuum(wavelength)
    order = np.argsort(wavelength)
    wavelength = wavelength[order]
    one, ours = units.Quantity(1, flux.unit), units.Unit(FLUX_UNIT)
    same = flux.unit.is_equivalent(ours)
    factor = one.to_value(ours, [] if same else units.spectral_density(wavelength * units.AA))
    arrays = {"flux": np.atleast_2d(flux.value)[:, order] * factor, "wavelength": wavelength}
    if ivar is not None:
        plain = np.atleast_2d(ivar.to_value(flux.unit**-2))
        arrays["ivar"] = plain[:, order] / factor**2
    if mask is not None:
        arrays["mask"] = np.atleast_2d(np.asarray(mask) != 0)[:, order]
    return arrays


def from_spectrum(spectrum: Any) -> Arrays:
    """The same of a `specutils.Spectrum`, or of anything with its attributes."""
    uncertainty = spectrum.uncertainty
    header = spectrum.meta.get("header", spectrum.meta)
    return from_quantities(
        spectrum.flux,
        units.Quantity(spectrum.spectral_axis),
        None if uncertainty is None else uncertainty.represent_as(InverseVariance).quantity,
        spectrum.mask,
        air=is_air(header),
    )


def from_table(table: Any) -> Arrays:
    """The same of a table of one spectrum: columns wavelength, flux and, if known, ivar, mask.

    `AIRORVAC` and the like in the table's `meta` tell air from vacuum.
    """
    columns = {name.lower(): table[name] for name in table.colnames}
    missing = {"wavelength", "flux"} - set(columns)
    if missing:
        raise ValueError(f"no column {', '.join(sorted(missing))}; found {table.colnames}")
    flux, axis = (_quantity(columns[name]) for name in ("flux", "wavelength"))
    ivar = _quantity(columns["ivar"], flux.unit**-2) if "ivar" in columns else None
    return from_quantities(flux, axis, ivar, columns.get("mask"), air=is_air(table.meta))


def _quantity(column: Any, otherwise: units.UnitBase | None = None) -> units.Quantity:
    """A column with its unit, or with another one if it has none; missing values are NaN."""
    unit = column.unit or otherwise
    if unit is None:
        raise ValueError(
            f"column {column.info.name} has no unit; expected one such as {FLUX_UNIT!r} or 'nm'"
        )
    return units.Quantity(np.ma.filled(np.ma.asarray(column, np.float64), np.nan), unit)
