"""What is at a path, and adding to it: rows in pieces, without duplicates; columns at once."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from . import records
from .duplicates import Duplicate, Sightings
from .rows import require_rows
from .survey import Survey
from .tables import require_place

COMMIT_ROWS = 4096  # what a killed job can lose
PIECE_ROWS = 256  # what is held in memory at a time


def require_new(path: str | Path) -> None:
    """Raises ValueError unless a store can be made at `path`, before hours of reading."""
    require_place(Path(path), folder=True)
    if dataset_at(path) is not None:
        raise ValueError(f"a survey store is at {path}; choose another path, or delete it")


def dataset_at(path: str | Path) -> lance.LanceDataset | None:
    """The Lance dataset of a store, None where one may be made."""
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{path} is a file; a survey store is a folder")
    try:
        dataset = lance.dataset(str(path))
    except ValueError as error:
        if "was not found" not in str(error):
            raise
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{path} is a folder with other things than a survey store") from error
        return None
    if (dataset.schema.metadata or {}).get(b"appulse") != b"survey":
        raise ValueError(f"{path} is a Lance dataset, but not a survey store")
    return dataset


def append(
    dataset: lance.LanceDataset, surveys: Iterable[Survey], duplicates: list[Duplicate]
) -> None:
    """Adds rows to the dataset, which moves to the new version, and lists those left out."""
    pieces = _new_pieces(dataset, surveys, duplicates)
    piece = next(pieces, None)
    while piece is not None:
        fields = records.new_fields(piece, dataset.schema)
        if fields:
            dataset.add_columns(pa.schema(fields))
        piece = _commit(dataset, piece, pieces)


def _new_pieces(
    dataset: lance.LanceDataset, surveys: Iterable[Survey], duplicates: list[Duplicate]
) -> Iterator[Survey]:
    seen = _sightings(dataset)
    for survey in surveys:
        for start in range(0, len(survey), PIECE_ROWS):
            piece = survey[start : start + PIECE_ROWS]
            new, repeated = seen.admit(piece)
            duplicates += repeated
            if new.any():
                yield piece[new]


def _sightings(dataset: lance.LanceDataset) -> Sightings:
    """What the dataset holds already."""
    seen = Sightings()
    names = {"targetid", "survey", "ra", "dec"} & set(dataset.schema.names)
    for batch in dataset.to_batches(sorted(names)):
        seen.repeats(**{name: records.column(batch[name]) for name in names})
    return seen


def _commit(
    dataset: lance.LanceDataset, piece: Survey | None, rest: Iterator[Survey]
) -> Survey | None:
    """Writes pieces of one set of columns as one version; returns the first that is left."""
    schema = dataset.schema
    failures: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal piece
        rows = 0
        try:
            while piece and rows < COMMIT_ROWS and not records.new_fields(piece, schema):
                yield records.encode(piece, schema)
                rows += len(piece)
                piece = next(rest, None)
        except (Exception, KeyboardInterrupt) as failure:  # raised below: Lance would drop rows
            failures.append(failure)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    try:
        lance.write_dataset(reader, dataset.uri, mode="append")
    except OSError as error:
        raise OSError(
            f"could not write to {dataset.uri}: {error}; its first {dataset.count_rows()} rows "
            "are whole: make room, then append the rest"
        ) from error
    dataset.checkout_latest()
    if failures:
        raise failures[0]
    return piece


def add_columns(
    dataset: lance.LanceDataset,
    columns: Mapping[str, Shaped[np.ndarray, "B"]],
    units: Mapping[str, str],
) -> None:
    """Adds columns to the dataset, which moves to the new version."""
    there = sorted({*dataset.schema.names, *records.OWN_COLUMNS} & set(columns))
    if there:
        raise ValueError(f"the store has {', '.join(there)} already; leave them out (--columns)")
    rows = dataset.count_rows()
    require_rows(rows, **columns)
    fields = [records.column_field(name, values, units) for name, values in columns.items()]
    arrays = [records.encode_column(columns[field.name], field, rows) for field in fields]
    dataset.add_columns(pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_reader())
