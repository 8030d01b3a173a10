"""Exact cosine search over stored embeddings; knows no galaxy."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped
from lance import LanceOperation
from lance.fragment import FragmentMetadata, write_fragments

from ..survey.tables import as_numpy
from .embeddings import Embeddings, as_vectors

CHUNK = 16_384  # rows written, and stored rows compared, at once
QUERIES = 1_024  # queries compared at once: 64 MB of similarities


class Neighbours(NamedTuple):
    """The most similar rows of each query, best first.

    Attributes:
        ids: Shape (Q, k), or fewer columns where fewer rows match.
        similarity: Cosine, same shape.
    """

    ids: np.ndarray
    similarity: Float[np.ndarray, "Q k"]


class Index:
    """Embeddings on disk (a Lance dataset) that can be searched, filtered and added to.

    Columns to filter by are `id`, `modality` ("image" or "spectrum") and those that came with
    the embeddings. Vectors are stored with unit norm.
    """

    def __init__(self, dataset: lance.LanceDataset):
        self._dataset = dataset

    @classmethod
    def create(
        cls, path: str | Path, embeddings: Embeddings, *, overwrite: bool = False
    ) -> "Index":
        """A new index at `path`.

        Raises:
            FileExistsError: If `path` exists and `overwrite` is False.
            FileNotFoundError: If it exists and is something else than an index.
            ValueError: On vectors that are zero or not finite.
        """
        return cls.stream(path, [embeddings], overwrite=overwrite)

    @classmethod
    def stream(
        cls, path: str | Path, parts: Iterable[Embeddings], *, overwrite: bool = False
    ) -> "Index":
        """As `create`, from embeddings as they come, in one commit; memory holds a few parts.

        Raises:
            ValueError: Besides, if there are none, or parts differ in model or columns.
        """
        there = Path(path).exists() and not _is_leftover(Path(path))
        if there and not overwrite:
            raise FileExistsError(f"{path} exists; open it, or pass overwrite=True")
        if there:
            cls.open(path)  # a survey store must not be overwritten
        tables = _pieces(_unit(part).to_table() for part in parts)
        return cls(_write(Path(path), tables, "overwrite" if there else "create"))

    @classmethod
    def open(cls, path: str | Path) -> "Index":
        """The index at `path`.

        Raises:
            FileNotFoundError: If there is none.
        """
        try:
            index = cls(lance.dataset(str(path)))
        except ValueError as error:
            raise FileNotFoundError(f"no index at {path}; make one with `appulse index`") from error
        if b"model_hash" not in (index._dataset.schema.metadata or {}):
            raise FileNotFoundError(f"{path} is a Lance dataset, but not an index of embeddings")
        return index

    def add(self, embeddings: Embeddings) -> None:
        """Appends rows of the same model and columns, in one commit.

        Raises:
            ValueError: If model or columns differ.
        """
        self._require(embeddings.model_hash, embeddings.vectors.shape[1])
        table = _unit(embeddings).to_table()
        if set(table.column_names) != set(self._dataset.schema.names):
            raise ValueError(
                f"embeddings have columns {table.column_names}, the index "
                f"{self._dataset.schema.names}; expected the same"
            )
        self._dataset = lance.write_dataset(table, self._dataset.uri, mode="append")

    def __len__(self) -> int:
        return self._dataset.count_rows()

    @property
    def model_hash(self) -> str:
        """Names the model that made the vectors."""
        return self._dataset.schema.metadata[b"model_hash"].decode()

    @property
    def width(self) -> int:
        """D, the length of a vector."""
        return self._dataset.schema.field("embedding").type.list_size

    def search(
        self,
        queries: Embeddings | Float[np.ndarray, "Q D"],
        k: int = 10,
        where: str | None = None,
    ) -> Neighbours:
        """The k rows of highest cosine similarity for each query.

        Args:
            queries: Embeddings, whose model must be the index's, or a plain array of vectors,
                which the caller vouches for.
            k: Number of neighbours.
            where: SQL condition on columns, e.g. "modality = 'spectrum' and redshift < 0.3".

        Raises:
            ValueError: If models, widths or columns do not fit.
        """
        if isinstance(queries, Embeddings):
            self._require(queries.model_hash, queries.vectors.shape[1])
            vectors = queries.vectors
        else:
            self._require(self.model_hash, queries.shape[1])
            vectors = queries
        if k < 1:
            raise ValueError(f"k is {k}; expected 1 or more")
        vectors = unit_vectors(vectors)
        best = Neighbours(
            np.empty((len(vectors), 0), dtype=object), np.empty((len(vectors), 0), np.float32)
        )
        for ids, stored in self._scan(where):
            best = _merge(best, ids, stored, vectors, k)
        return Neighbours(best.ids.astype(str), best.similarity)

    def _scan(self, where: str | None) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "N D"]]]:
        try:
            batches = self._dataset.scanner(
                columns=["id", "embedding"], filter=where, batch_size=CHUNK, scan_in_order=True
            ).to_reader()
        except ValueError as error:
            raise ValueError(
                f"where={where!r} is not understood; expected SQL on the columns "
                f"{self._dataset.schema.names}, e.g. \"modality = 'image'\""
            ) from error
        for batch in batches:
            yield as_numpy(batch["id"]).astype(object), as_vectors(batch["embedding"])

    def _require(self, model_hash: str, width: int) -> None:
        if (model_hash, width) != (self.model_hash, self.width):
            raise ValueError(
                f"vectors have model {model_hash!r} and width {width}, the index "
                f"{self.model_hash!r} and {self.width}; embed again with the index's model"
            )


def _is_leftover(path: Path) -> bool:
    """Whether all that is there is of a first write that was killed."""
    return path.is_dir() and all(
        entry.name == "data"
        and entry.is_dir()
        and all(file.is_file() and file.suffix == ".lance" for file in entry.iterdir())
        for entry in path.iterdir()
    )


def _write(
    path: Path, tables: Iterator[pa.Table], mode: Literal["create", "overwrite"]
) -> lance.LanceDataset:
    """Writes tables in one commit; if that fails, what was there before is there again.

    Lance could take the iterator itself, but would run it in many threads of its own, each of
    which keeps memory that the towers once needed.
    """
    fragments: list[FragmentMetadata] = []
    before = set((path / "data").glob("*"))
    try:
        for table in tables:
            schema = table.schema
            fragments += write_fragments(table, str(path), schema, mode=mode)
        if not fragments:
            raise ValueError("nothing to store: no rows were read")
    except BaseException:
        _remove(path, set((path / "data").glob("*")) - before)
        raise
    # An interrupt in here may come after the commit, whose files must stay.
    written = lance.LanceDataset.commit(str(path), LanceOperation.Overwrite(schema, fragments))
    written.cleanup_old_versions(timedelta(0), delete_unverified=True)
    return written


def _remove(path: Path, files: Iterable[Path]) -> None:
    """These files of an index, and its folders if nothing else is in them."""
    for file in files:
        file.unlink()
    for folder in (path / "data", path):
        with suppress(OSError):
            folder.rmdir()


def _pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `CHUNK` rows or more, but for the last."""
    some: list[pa.Table] = []
    for table in tables:
        if some:
            _require_alike(table.schema, some[0].schema)
        some.append(table)
        if sum(map(len, some)) >= CHUNK:
            yield pa.concat_tables(some)
            some = [some[0].slice(0, 0)]  # what the next ones must be like
    if sum(map(len, some)):
        yield pa.concat_tables(some)


def _require_alike(schema: pa.Schema, first: pa.Schema) -> None:
    if not schema.equals(first, check_metadata=True):
        raise ValueError(
            f"embeddings of one index differ: {schema} and {first}; expected one model and the "
            "same columns"
        )


def unit_vectors(vectors: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B D"]:
    """Vectors divided by their norms, in float32."""
    norm = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norm) & (norm > 0)))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(vectors)} vectors are zero or not finite and have no direction: "
            f"rows {bad[:5].tolist()}; leave them out"
        )
    return (vectors / norm).astype(np.float32)


def _unit(embeddings: Embeddings) -> Embeddings:
    return replace(embeddings, vectors=unit_vectors(embeddings.vectors))


def _merge(
    best: Neighbours,
    ids: Shaped[np.ndarray, "N"],
    stored: Float[np.ndarray, "N D"],
    queries: Float[np.ndarray, "Q D"],
    k: int,
) -> Neighbours:
    """The k best of `best` and a chunk of rows, for each query."""
    blocks = []
    for start in range(0, len(queries), QUERIES):
        rows = slice(start, start + QUERIES)
        similarity = queries[rows] @ stored.T
        pick = _top(similarity, k)
        names = np.concatenate([best.ids[rows], ids[pick]], axis=1)
        similarity = np.take_along_axis(similarity, pick, axis=1)
        similarity = np.concatenate([best.similarity[rows], similarity], axis=1)
        pick = _top(similarity, k)
        blocks.append([np.take_along_axis(a, pick, axis=1) for a in (names, similarity)])
    return Neighbours(*(np.concatenate(part) for part in zip(*blocks, strict=True)))


def _top(similarity: Float[np.ndarray, "Q N"], k: int) -> np.ndarray:
    """Columns of the k largest entries of each row, largest first, earlier ones first in ties."""
    if k < similarity.shape[1]:
        pick = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
    else:
        pick = np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape)
    order = np.argsort(-np.take_along_axis(similarity, pick, axis=1), axis=1, kind="stable")
    return np.take_along_axis(pick, order, axis=1)
