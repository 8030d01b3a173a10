"""Spectra in tables: one a row of a Parquet file, or one a file of ECSV or FITS."""

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
from .quantities import from_quantities, from_table
from .rejects import Rejects
from .resample import to_grid
from .spectra import Spectra

_ROWS = 256  # in memory at once
_LISTS = ("wavelength", "flux", "ivar", "mask")
_NAMES = ("id", "targetid")  # of the column, or entry of the header, that names a spectrum


def read_parquet(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """One spectrum per row, rebinned to `grid` (DESI's if left out).

    Columns of lists: `flux` and, if known, `wavelength` (DESI's grid if left out), `ivar`,
    `mask`; and `id` (or `targetid`), `ra`, `dec`. A field's metadata may name its `unit`;
    without it, flux is in 1e-17 erg/s/cm²/Å and wavelength in Å. "nm, air" is a unit in air.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = [name for name in (*_LISTS, *_NAMES, "ra", "dec") if name in schema.names]
        if "flux" not in names:
            raise ValueError(f"no column flux of lists; found {', '.join(schema.names)}")
        _require_bounded(file, names)
        fields = {name: _unit(schema.field(name).metadata) for name in names}
        row = 0
        for batch in file.iter_batches(_ROWS, columns=names):
            for i in range(batch.num_rows):
                with rejects.guard(path, row):
                    values = {name: _value(batch[name][i]) for name in names}
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
        None if ivar is None else units.Quantity(np.asarray(ivar, np.float64), scale**-2),
        values.get("mask"),
        air=medium.split(",")[0].strip() == "air",
    )
    return Spectra.from_arrays(**arrays, **_identity(values, str(row)))


def _identity(values: dict[str, Any], otherwise: str) -> dict[str, Any]:
    names = [str(values[name]) for name in _NAMES if values.get(name) is not None]
    ra, dec = (_degrees(values.get(name)) for name in ("ra", "dec"))
    return {"ids": [names[0] if names else otherwise], "ra": ra, "dec": dec}


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
    identity = _identity(meta, path.name.split(".")[0])
    return Spectra.from_arrays(**from_table(table), **identity)
