"""Tables on disk, Parquet or FITS, as Arrow tables."""

import tempfile
import warnings
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import atomic_path
from .records import column


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table, whole or not at all, as its suffix says.

    Text in the table's metadata becomes header cards in FITS.

    Raises:
        ValueError: If the suffix is neither .parquet nor .fits.
    """
    _require_suffix(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(table, temporary)
        else:
            with warnings.catch_warnings():  # HIERARCH cards hold long names
                warnings.filterwarnings("ignore", ".*HIERARCH card will be created")
                _to_astropy(table).write(temporary, format="fits")


def write_parts(tables: Iterable[pa.Table], path: Path) -> None:
    """Writes tables of the same columns as one Parquet file, whole or not at all; none, no file."""
    pending = iter(tables)
    first = next(pending, None)
    if first is None:
        return
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, first.schema) as writer:
        for table in chain([first], pending):
            writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Reads what `write_table` wrote, and tables like it."""
    _require_suffix(path)
    if path.suffix == ".parquet":
        return pq.read_table(path)
    from astropy.table import Table

    return _from_astropy(Table.read(path, format="fits", hdu=1))


def require_known(path: Path) -> None:
    """Raises ValueError if `write_table` could not write there, before hours of work."""
    _require_suffix(path)
    require_place(path)


def _require_suffix(path: Path) -> None:
    if path.suffix not in (".parquet", ".fits"):
        raise ValueError(f"{path} ends in {path.suffix!r}; expected .parquet or .fits")


def require_place(path: Path, *, folder: bool = False) -> None:
    """Raises ValueError if a file (or folder) could not be written there."""
    if path.is_dir() and not folder:
        raise ValueError(f"{path} is a folder; expected the name of a file to write")
    try:
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write to folder {path.parent}: {error.strerror}; choose another one"
        ) from error


def as_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """An Arrow column as NumPy has it: lists as objects, dates as text,
    what is missing NaN, "" or False.

    Missing among integers too large for float64, as ids are, is -1.
    """
    if pa.types.is_nested(values.type):
        return values.to_numpy(zero_copy_only=False)
    return column(_plain(values))


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """As strings, floats, booleans or integers."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _plain(values.cast(kind.value_type))
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return _plain(values.cast(pa.int64()))
    if _is_text(kind):
        return values.cast(pa.string())
    if pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64())
    if pa.types.is_integer(kind) and values.null_count:
        try:
            return values.cast(pa.float64())
        except pa.ArrowInvalid:
            return values.cast(pa.int64())
    return values


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary)
    return any(is_kind(kind) for is_kind in (*texts, types.is_temporal))


def _to_astropy(table: pa.Table) -> Any:
    from astropy.table import Table

    columns = {name: _to_numpy(table[name].combine_chunks()) for name in table.column_names}
    meta = {k.decode().upper(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return Table(columns, meta=meta)


def _to_numpy(column: Any) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), -1)
    array = column.to_numpy(zero_copy_only=False)
    return np.char.encode(array.astype(str), "utf-8") if array.dtype == object else array


def _from_astropy(table: Any) -> pa.Table:
    columns = {name: _to_arrow(np.asarray(table[name])) for name in table.colnames}
    meta = {str(k).lower(): str(v) for k, v in table.meta.items()}
    return pa.table(columns).replace_schema_metadata(meta)


def _to_arrow(array: np.ndarray) -> Any:
    if array.dtype.kind == "S":
        return pa.array(np.char.decode(array, "utf-8"))
    array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 1:
        return pa.array(array)
    flat = pa.array(np.ascontiguousarray(array).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
