"""Rows that could not be read: what, where and why."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from ..files import atomic_path

Rows = TypeVar("Rows")

_SCHEMA = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string()})


class Reject(NamedTuple):
    """One row that was set aside; `row` is None if the whole file was, or no number is known."""

    file: str
    row: int | None
    reason: str


class RejectedRowError(ValueError):
    """A row could not be read, and nobody asked to set such rows aside."""


class Rejects:
    """Collects bad rows so that one of them never stops the rest of a job.

    Args:
        strict: Raise at the first bad row instead of collecting it.
    """

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.rows: list[Reject] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Reject]:
        return iter(self.rows)

    def add(self, file: str | Path, row: int | None, reason: str) -> None:
        """Sets a row aside.

        Raises:
            RejectedRowError: A ValueError naming file, row and reason, if `strict`.
        """
        if self.strict:
            where = f"{file}" if row is None else f"{file}, row {row}"
            raise RejectedRowError(f"{where}: {reason}; leave it out")
        self.rows.append(Reject(str(file), row, reason))

    @contextmanager
    def guard(self, file: str | Path, row: int | None = None) -> Iterator[None]:
        """Sets the row aside if the block fails, whatever a broken file makes it raise."""
        try:
            yield
        except RejectedRowError:
            raise
        except Exception as error:
            name = "" if type(error) is ValueError else f"{type(error).__name__}: "
            try:
                self.add(file, row, name + " ".join(str(error).split()))
            except RejectedRowError as rejected:
                raise rejected from error

    def salvage(
        self,
        file: str | Path,
        rows: Int[np.ndarray, "N"],
        build: Callable[[Int[np.ndarray, "N"]], Rows],
    ) -> Iterator[Rows]:
        """All rows at once if they are good, or else each good one alone.

        Args:
            file: Where the rows are from.
            rows: Their numbers within the file.
            build: Makes some of these rows; raises if one of them is bad.
        """
        try:
            whole = build(rows)
        except Exception:  # whatever a broken file makes it raise
            for row in rows:
                with self.guard(file, int(row)):
                    yield build(row[None])
        else:
            yield whole

    def read(self, path: str | Path) -> None:
        """Adds the rows of a Parquet table that `write` wrote."""
        for row in pq.read_table(path).to_pylist():
            self.add(**row)

    def write(self, path: str | Path) -> None:
        """Writes the table: Parquet if the name ends in .parquet, else CSV."""
        with atomic_path(path) as temporary:
            if temporary.suffix == ".parquet":
                rows = [row._asdict() for row in self.rows]
                pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary)
                return
            with temporary.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle)
                writer.writerow(Reject._fields)
                writer.writerows(self.rows)
