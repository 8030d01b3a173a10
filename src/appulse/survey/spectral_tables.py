"""Spectra in tables: one a row of a Parquet file, or one a file of ECSV or FITS."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.io.fits import BinTableHDU, HDUList
from astropy.table import Table
from jaxtyping import Float

from ..units import FLUX_UNIT, desi_grid
from .bounded import require_size
from .kind import name_of
from .positions import DEC_NAMES, ID_NAMES, RA_NAMES, ids_of
from .quantities import from_quantities, from_table
from .rejects import Rejects
from .resample import to_grid
from .spectra import Spectra

_ROWS = 256  # in memory at once
_LISTS = ("wavelength", "flux", "ivar", "mask")
_INVERSE_SQUARE = re.compile(r"\((.+)\)\^-2")  # how a store's export writes the unit of ivar


def read_parquet(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """One spectrum per row, rebinned to `grid` (DESI's if left out).

    Columns of lists: `flux` and, if known, `wavelength` (DESI's grid if left out), `ivar`,
    `mask`; and a name (`targetid`, `id`, ... as `positions.ID_NAMES` lists them), `ra`, `dec`. A
    field's metadata may name its `unit`; without it, flux is in 1e-17 erg/s/cm²/Å, ivar in the
    inverse square of the flux's and wavelength in Å. "nm, air" is a unit in air.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        identity = (*ID_NAMES, *RA_NAMES, *DEC_NAMES)
        names = [n for n in schema.names if n in _LISTS or n.lower() in identity]
        if "flux" not in names:
            raise ValueError(f"no column flux of lists; found {', '.join(schema.names)}")
        _require_bounded(file, names)
        fields = {name: _unit(schema.field(name).metadata) for name in names}
        row = 0
        for batch in file.iter_batches(_ROWS, columns=names):
            for i in range(batch.num_rows):
                with rejects.guard(path, row):
                    values = {name.lower(): _value(batch[name][i]) for name in names}
                    yield to_grid(_row(values, fields, row), grid)
                row += 1


def _require_bounded(file: pq.ParquetFile, names: list[str]) -> None:
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = (group.column(i) for i in range(group.num_columns))
        wanted = [c for c in chunks if c.path_in_schema.split(".")[0] in names]
        values = sum(chunk.num_values for chunk in wanted)
        require_size(max(8 * values, group.total_byte_size), f"row group {number}")


def _unit(metadata: dict[bytes, bytes] | None) -> str:
    return (metadata or {}).get(b"unit", b"").decode()


def _value(entry: pa.Scalar) -> Any:
    """A list as an array, anything else as Python has it; None if missing."""
    if isinstance(entry, pa.ListScalar) and entry.is_valid:
        return entry.values.to_numpy(zero_copy_only=False)
    return entry.as_py()


def _row(values: dict[str, Any], fields: dict[str, str], row: int) -> Spectra:
    unit, _, medium = fields.get("wavelength", "").partition(",")
    flux = np.asarray(values["flux"], np.float64)
    axis = desi_grid() if values.get("wavelength") is None else values["wavelength"]
    scale = units.Unit(fields["flux"] or FLUX_UNIT)
    ivar = values.get("ivar")
    arrays = from_quantities(
        units.Quantity(flux, scale),
        units.Quantity(axis, unit.strip() or "Angstrom"),
        None if ivar is None else _ivar(ivar, fields["ivar"], scale),
        values.get("mask"),
        air=medium.split(",")[0].strip() == "air",
    )
    return Spectra.from_arrays(**arrays, **_identity(values, str(row)))


def _ivar(values: Any, unit: str, flux: units.UnitBase) -> units.Quantity:
    square = _INVERSE_SQUARE.fullmatch(unit)
    its = units.Unit(square[1]) ** -2 if square else units.Unit(unit or flux**-2)
    return units.Quantity(np.asarray(values, np.float64), its)


def _identity(values: dict[str, Any], otherwise: str) -> dict[str, Any]:
    """Name and place, by the first of each one's names that has a value."""
    id_, ra, dec = (
        next((values[name] for name in names if values.get(name) is not None), None)
        for names in (ID_NAMES, RA_NAMES, DEC_NAMES)
    )
    named = "" if id_ is None else str(ids_of(np.array([id_]))[0])
    return {"ids": [named or otherwise], "ra": _degrees(ra), "dec": _degrees(dec)}


def _degrees(value: Any) -> float:
    """A coordinate; NaN if it is missing or no number, as "00:42:44" is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def read_ecsv(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """The one spectrum of an ECSV file, rebinned to `grid` (DESI's if left out).

    Columns `wavelength` and `flux` with units of any spectral axis and flux density, and, if
    known, `ivar` and `mask`. The header's `meta` may hold `id`, `ra`, `dec` [deg] and, where
    wavelengths are in air, `AIRORVAC: air`.
    """
    with rejects.guard(path, 0):
        require_size(path.stat().st_size, path.name)
        yield to_grid(_single(Table.read(path, format="ascii.ecsv"), path), grid)


def read_fits(
    hdus: HDUList, path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """The one spectrum of a FITS table, laid out as in `read_ecsv`; units are in `TUNITn`."""
    with rejects.guard(path, 0):
        found = [hdu for hdu in hdus if is_spectrum(hdu)]
        if len(found) > 1:
            raise ValueError(f"{len(found)} tables hold wavelength and flux; expected one")
        hdu = found[0]
        require_size(hdu.size, f"table {hdu.name}")
        table = Table.read(hdu)
        table.meta = {**hdus[0].header, **table.meta}
        yield to_grid(_single(table, path), grid)


def is_spectrum(hdu: Any) -> bool:
    """Whether an HDU is a table with columns `wavelength` and `flux`."""
    if not isinstance(hdu, BinTableHDU):
        return False
    return {"wavelength", "flux"} <= {name.lower() for name in hdu.columns.names}


def _single(table: Table, path: Path) -> Spectra:
    meta = {str(key).lower(): value for key, value in table.meta.items()}
    identity = _identity(meta, name_of(path))
    return Spectra.from_arrays(**from_table(table), **identity)
