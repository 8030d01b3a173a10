"""Tables on disk, Parquet or FITS, as Arrow tables."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import atomic_path


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table, whole or not at all, as its suffix says.

    Text in the table's metadata becomes header cards in FITS.

    Raises:
        ValueError: If the suffix is neither .parquet nor .fits.
    """
    require_known(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(table, temporary)
        else:
            with warnings.catch_warnings():  # HIERARCH cards hold long names
                warnings.filterwarnings("ignore", ".*HIERARCH card will be created")
                _to_astropy(table).write(temporary, format="fits")


def read_table(path: Path) -> pa.Table:
    """Reads what `write_table` wrote, and tables like it."""
    require_known(path)
    if path.suffix == ".parquet":
        return pq.read_table(path)
    from astropy.table import Table

    return _from_astropy(Table.read(path, format="fits", hdu=1))


def require_known(path: Path) -> None:
    """Raises ValueError if `write_table` could not write there, before hours of work."""
    if path.suffix not in (".parquet", ".fits"):
        raise ValueError(f"{path} ends in {path.suffix!r}; expected .parquet or .fits")


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
