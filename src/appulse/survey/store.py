"""A survey on disk: `SurveyStore`, one Lance dataset."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Shaped

from ..files import atomic_path
from . import records
from .batches import BatchOrder, read_ahead
from .duplicates import Duplicate
from .parts import PARTS, Split
from .rows import as_index
from .store_append import add_columns, append, dataset_at, require_new
from .survey import Survey


class SurveyStore:
    """Galaxies on disk: image, spectrum and catalogue in one row each.

    Rows keep their number for good: new ones come after the old. Every row belongs to one of the
    four `PARTS`, fixed when it is written. Images are kept as float16, so pixels beyond 65504
    nanomaggies come back masked; the positions of an image and its spectrum become one.

    Attributes:
        path: Folder of the Lance dataset.
        duplicates: Rows that the last write left out.
    """

    def __init__(self, dataset: lance.LanceDataset) -> None:
        self._dataset = dataset
        self.path = dataset.uri
        self.duplicates: list[Duplicate] = []

    @classmethod
    def open(cls, path: str | Path) -> "SurveyStore":
        """The store at `path`.

        Raises:
            ValueError: If there is none.
        """
        dataset = dataset_at(path)
        if dataset is None:
            raise ValueError(f"no survey store at {path}; make one with `appulse pair`")
        return cls(dataset)

    @classmethod
    def create(
        cls,
        path: str | Path,
        surveys: Iterable[Survey],
        *,
        split: Split | None = None,
    ) -> "SurveyStore":
        """Writes a new store; the first survey fixes image size and wavelengths.

        What `append` says of interrupted writes and duplicates holds here too.

        Args:
            path: Folder to be.
            surveys: Read one at a time.
            split: How rows divide into parts; by hashed id unless given.

        Raises:
            ValueError: If `surveys` is empty, or a store is there.
        """
        require_new(path)
        pending = iter(surveys)
        first = next(pending, None)
        if first is None:
            raise ValueError(f"no surveys to store at {path}")
        schema = records.schema_of(first, split or Split())
        store = cls(lance.write_dataset(schema.empty_table(), str(path), schema=schema))
        store.append(chain([first], pending))
        return store

    def append(self, surveys: Iterable[Survey]) -> list[Duplicate]:
        """Adds rows, and says which it left out as duplicates.

        A row is a duplicate if its id is there already, or a galaxy of the same survey (by the
        column `survey`) within 1″. Columns that are new here, or missing, are filled with nulls.

        Rows become part of the store some thousands at a time. A killed or failed write keeps
        all that came before, so that a producer goes on from row `len(store)`; if it starts
        over, what is there already is left out as duplicates.

        Raises:
            ValueError: If a survey does not fit the store: image size, wavelengths, columns.
            OSError: If the disk is full.
        """
        self.duplicates = []
        append(self._dataset, surveys, self.duplicates)
        return self.duplicates

    def add_columns(
        self, columns: Mapping[str, Shaped[np.ndarray, "N"]], units: Mapping[str, str]
    ) -> None:
        """Adds columns with one value for each row, NaN or "" where unknown, in one commit.

        Raises:
            ValueError: On names that are there already, or other lengths than the store's.
        """
        add_columns(self._dataset, columns, units)

    def __len__(self) -> int:
        return self._dataset.count_rows()

    @property
    def names(self) -> list[str]:
        """Names of all columns, for `columns` and `where`."""
        return self._dataset.schema.names

    @property
    def units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        fields = (field for field in self._dataset.schema if field.metadata)
        return {field.name: field.metadata[b"unit"].decode() for field in fields}

    @property
    def identity(self) -> dict[str, Any]:
        """Names the galaxies in here, so that runs on different ones are told apart."""
        ids = self.columns(["targetid"])["targetid"]
        name = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        return {"rows": len(ids), "ids": name, "surveys": self.surveys}

    @property
    def surveys(self) -> list[str]:
        """Names in the column `survey`, such as "synthetic"; none if there is no such column."""
        if "survey" not in self.names:
            return []
        return np.unique(self.columns(["survey"])["survey"]).tolist()

    @property
    def split(self) -> Split:
        """How rows divide into parts."""
        return records.split_of(self._dataset.schema)

    def rows(self, part: str | None = None, where: str | None = None) -> Int[np.ndarray, "N"]:
        """Numbers of the rows of a part, or for which an SQL condition holds.

        Args:
            part: One of `PARTS`; all if None.
            where: Condition on columns, such as "redshift < 0.3 AND survey = 'sdss'".

        Raises:
            ValueError: On a part or column that does not exist, or wrong SQL.
        """
        return self._scan(["_rowoffset"], part, where)["_rowoffset"].to_numpy().astype(int)

    def columns(
        self, names: Sequence[str], part: str | None = None, where: str | None = None
    ) -> dict[str, Shaped[np.ndarray, "N"]]:
        """Columns of the catalogue, in the order of `rows`; no pixel is read.

        Missing values are NaN, "", -1 or False.

        Raises:
            ValueError: As `rows` does.
        """
        schema = self._dataset.schema
        table = self._scan(records.sources(names, schema, pixels=False), part, where)
        return {name: records.decode(name, table, schema) for name in names}

    def take(self, rows: Any, fields: Sequence[str] = ("images", "spectra")) -> dict[str, Any]:
        """Some rows, in the order asked for, reading only what is asked for.

        Args:
            rows: Numbers, a slice or booleans.
            fields: "images", "spectra", or names of columns.

        Returns:
            `Images`, `Spectra` or an array for each field.
        """
        schema = self._dataset.schema
        table = self._dataset.take(self._numbers(rows), records.sources(fields, schema))
        return {name: records.decode(name, table, schema) for name in fields}

    def read(
        self, rows: Any = None, *, part: str | None = None, where: str | None = None
    ) -> Survey:
        """Galaxies with image, spectrum and all columns: these rows, or as `rows` selects.

        Raises:
            ValueError: If no row is selected, and as `rows` does.
            IndexError: On rows beyond the store's length.
        """
        if rows is None:
            rows = self.rows(part, where)
        elif part is not None or where is not None:
            raise ValueError("pass rows, or part and where; not both")
        extra = [name for name in self.names if name not in records.OWN_COLUMNS]
        fields = self.take(rows, ("images", "spectra", *extra))
        return Survey(fields.pop("images"), fields.pop("spectra"), fields)

    def iter(
        self, part: str | None = None, batch_size: int = 1024, where: str | None = None
    ) -> Iterator[Survey]:
        """The rows of a part in order, some at a time."""
        rows = self.rows(part, where)
        for start in range(0, len(rows), batch_size):
            yield self.read(rows[start : start + batch_size])

    def batches(
        self,
        part: str | None,
        batch_size: int,
        *,
        fields: Sequence[str] = ("images", "spectra"),
        where: str | None = None,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        epochs: int | None = 1,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Batches for training, each what `take` returns for its rows; threads read some ahead.

        The order follows from the rows, `seed` and the number of the epoch, so a run that stopped
        after k steps goes on exactly with `start=k`, unless rows were appended in between.

        Args:
            part: One of `PARTS`; all rows if None.
            batch_size: Rows in a batch.
            fields: What to read: "images", "spectra", or names of columns.
            where: SQL condition, as in `rows`.
            seed, epoch, start, epochs, shuffle, drop_last: See `BatchOrder`.
        """
        order = BatchOrder(
            self.rows(part, where), batch_size, seed, epoch, start, epochs, shuffle, drop_last
        )
        return read_ahead(partial(self.take, fields=fields), order)

    def to_parquet(self, path: str | Path) -> None:
        """Writes all rows and columns to a Parquet file, units in the fields' metadata."""
        schema = self._dataset.schema
        with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for batch in self._dataset.to_batches(batch_size=256):  # rows of 120 kB and more
                writer.write_batch(batch)

    def _scan(self, columns: list[str], part: str | None, where: str | None) -> pa.Table:
        if part is not None and part not in PARTS:
            raise ValueError(f"there is no part {part!r}; expected one of {', '.join(PARTS)}")
        conditions = [f"part = '{part}'"] if part else []
        conditions += [f"({where})"] if where else []
        try:
            return self._dataset.to_table(columns, filter=" AND ".join(conditions) or None)
        except ValueError as error:
            raise ValueError(f"cannot select the rows where {where!r}: {error}") from error

    def _numbers(self, rows: Any) -> Int[np.ndarray, "N"]:
        n = len(self)
        index = as_index(rows, n)
        if isinstance(index, slice):
            index = np.arange(*index.indices(n))
        elif index.dtype == bool:
            index = np.flatnonzero(index)
        beyond = index[(index < 0) | (index >= n)]
        if len(beyond):
            raise IndexError(f"rows {beyond[:5].tolist()} are beyond the store's {n} rows")
        if not len(index):
            raise ValueError(f"no rows of {self.path} are selected; expected at least one")
        return index
