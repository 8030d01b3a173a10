"""Columns of a catalogue in FITS, HDF5, Parquet, ECSV or CSV."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from astropy.io.fits import BinTableHDU
from astropy.table import Table
from jaxtyping import Shaped

from .bounded import open_fits, require_size
from .kind import kind_of
from .positions import ID_NAMES
from .tables import as_numpy

Columns = dict[str, Shaped[np.ndarray, "B ..."]]
Choose = Callable[[Sequence[str]], Sequence[str]]


def read_columns(path: Path, choose: Choose) -> Columns:
    """Some columns of a table, as arrays with one entry (or row) for each of its rows.

    In HDF5 a table is one structured dataset, as astropy writes it, or one dataset per column.
    What is missing is NaN, "" or False; among integers too large for float64, as ids are, -1.

    Args:
        path: The file; its kind is known by content, and what is of no other kind is CSV.
        choose: Given the names of all columns, those to read.

    Raises:
        ValueError: If the file holds no table or is broken, or if more than `bounded.LIMIT` bytes
            of it are asked for.
    """
    read = _READERS.get(kind := kind_of(path, "CSV"))
    if read is None:
        raise ValueError(f"{path} is a {kind} file; expected a table, {', '.join(_READERS)}")
    try:
        return read(path, choose)
    except Exception as error:  # whatever a broken file makes its library raise
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _fits(path: Path, choose: Choose) -> Columns:
    with open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, BinTableHDU)]
        if not tables:
            raise ValueError(f"{path} is a FITS file without a table")
        data = tables[0].data
        names = choose(data.names)
        _require(len(data), [data.dtype[name] for name in names], path)
        nulls = {column.name: _scaled_null(column) for column in data.columns}
        return {name: _without_null(_native(np.array(data[name])), nulls[name]) for name in names}


def _scaled_null(column: Any) -> float | None:
    """TNULL as the values come: scaled."""
    if column.null is None:
        return None
    return float(column.null * (column.bscale or 1) + (column.bzero or 0))


def _without_null(values: np.ndarray, null: float | None) -> np.ndarray:
    """A column of FITS, where a number of the header's (TNULL) stands for what is missing."""
    return values if null is None else _filled(values, values == null)


def _hdf5(path: Path, choose: Choose) -> Columns:
    with h5py.File(path) as file:
        sets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        whole = next((item for item in sets.values() if item.dtype.names), None)
        if whole is not None:
            names = list(choose(whole.dtype.names))
            _require(len(whole), [whole.dtype[name] for name in names], path)
            rows = whole.fields(names)[:]
            return {name: _native(rows[name]) for name in names}
        names = list(choose(list(sets)))
        for name in names:
            require_size(sets[name].nbytes, f"{path}, dataset {name}")
        return {name: _native(sets[name][:]) for name in names}


def _parquet(path: Path, choose: Choose) -> Columns:
    with pq.ParquetFile(path) as file:
        names = list(choose(file.schema_arrow.names))
        # as many bytes as numbers take; text may take more, but not by much
        require_size(8 * len(names) * file.metadata.num_rows, str(path))
        return _arrays(file.read(names), names)


def _csv(path: Path, choose: Choose) -> Columns:
    require_size(path.stat().st_size, str(path))
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        names = next(csv.reader(text), [])
    ids = {name: pa.string() for name in names if name.lower() in ID_NAMES}  # 000123 is no number
    with path.open("rb") as handle:
        options = pa_csv.ConvertOptions(column_types=ids, strings_can_be_null=True)
        table = pa_csv.read_csv(handle, convert_options=options)
    for name in ids:
        table = table.set_column(table.column_names.index(name), name, _as_ids(table[name]))
    return _arrays(table, list(choose(table.column_names)))


def _as_ids(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without blanks, the ".0" that integers get where some are missing, and DESI's -1."""
    bare = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^(\d+)\.0*$", r"\1")
    return pc.if_else(pc.equal(bare, "-1"), "", bare)


def _ecsv(path: Path, choose: Choose) -> Columns:
    require_size(path.stat().st_size, str(path))
    table = Table.read(path, format="ascii.ecsv")
    return {name: _unmasked(table[name]) for name in choose(table.colnames)}


_READERS: dict[str, Callable[[Path, Choose], Columns]] = {
    "FITS": _fits,
    "HDF5": _hdf5,
    "Parquet": _parquet,
    "CSV": _csv,
    "ECSV": _ecsv,
}


def _require(rows: int, types: Sequence[np.dtype], path: Path) -> None:
    require_size(rows * sum(kind.itemsize for kind in types), str(path))


def _arrays(table: pa.Table, names: Sequence[str]) -> Columns:
    return {name: as_numpy(table[name]) for name in names}


def _unmasked(values: Any) -> np.ndarray:
    """A column of an astropy table."""
    return _filled(_native(np.ma.getdata(values, subok=False)), np.ma.getmaskarray(values))


def _filled(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Missing entries as in a column of Arrow."""
    if values.ndim > 1 or not missing.any():
        return values
    return as_numpy(pa.array(values, mask=missing))


def _native(values: np.ndarray) -> np.ndarray:
    """In the machine's byte order; bytes become text without trailing spaces."""
    if values.dtype.kind in "SO":
        text = [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
        return np.char.strip(np.array(text, dtype=np.str_))
    if values.dtype.kind == "U":
        return np.char.strip(values)
    return values.astype(values.dtype.newbyteorder("="))
