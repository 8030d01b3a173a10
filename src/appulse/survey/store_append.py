"""Adding rows to a store: in pieces, without duplicates, some thousands to a commit."""

from collections.abc import Iterable, Iterator

import lance
import pyarrow as pa

from . import records
from .duplicates import Duplicate, Sightings
from .survey import Survey

COMMIT_ROWS = 4096  # what a killed job can lose
PIECE_ROWS = 256  # what is held in memory at a time


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
    failures: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal piece
        rows = 0
        try:
            while piece and rows < COMMIT_ROWS and not records.new_fields(piece, schema):
                yield records.encode(piece, schema)
                rows += len(piece)
                piece = next(rest, None)
        except Exception as failure:  # raised below: Lance would drop the rows before it
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
