"""Embeddings of objects, with what is needed to use them rightly later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from ..files import atomic_path
from ..survey.positions import ids_of
from ..survey.tables import as_numpy, read_table, require_place, write_table

Modality = Literal["image", "spectrum"]
RESERVED = ("id", "modality", "embedding")  # column names of the table form
SUFFIXES = (".parquet", ".fits", ".npy")  # what `write` writes
COORDINATE = "coordinate_"  # and a number: columns of a model's coordinates
STRUCTURE = "structure_"  # and a number: columns of the structure of images
REDSHIFT = "spectrum_redshift"  # column of what a shift dictionary measured
STREAMED = ".lance"  # an index, which takes rows as they come


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of one modality, all from one model; row i of everything is one object.

    Attributes:
        ids: Names, shape (B,).
        vectors: float32, shape (B, D), as the model made them.
        modality: "image" or "spectrum".
        model_hash: Names the model and its preprocessing; vectors of different hashes do not mix.
        columns: Anything to keep or filter by, one entry per row.
    """

    ids: np.ndarray
    vectors: Float[np.ndarray, "B D"]
    modality: Modality
    model_hash: str
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[1] == 0:
            raise ValueError(f"vectors have shape {self.vectors.shape}; expected (B, D), D > 0")
        if self.modality not in get_args(Modality):
            raise ValueError(f"modality is {self.modality!r}; expected one of {get_args(Modality)}")
        for name, column in {"ids": self.ids, **self.columns}.items():
            if len(column) != len(self.vectors):
                raise ValueError(
                    f"{name} has {len(column)} rows, vectors {len(self.vectors)}; expected the same"
                )
        if taken := set(RESERVED) & set(self.columns):
            raise ValueError(f"columns may not be named {sorted(taken)}; rename them")

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any) -> "Embeddings":
        """The rows named by a slice or an array."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, ids=self.ids[rows], vectors=self.vectors[rows], columns=columns)

    @classmethod
    def concatenate(cls, parts: Sequence["Embeddings"]) -> "Embeddings":
        """All rows of several, which are of one model and modality and have the same columns."""
        first = parts[0]
        return replace(
            first,
            ids=np.concatenate([part.ids for part in parts]),
            vectors=np.concatenate([part.vectors for part in parts]),
            columns={n: np.concatenate([p.columns[n] for p in parts]) for n in first.columns},
        )

    @property
    def coordinates(self) -> Float[np.ndarray, "B K"]:
        """What the model measured or expects beside; K is 0 if nothing."""
        return self._numbered(COORDINATE)

    @property
    def structure(self) -> Float[np.ndarray, "B S"]:
        """Of images, see `survey.structure`; S is 0 for spectra."""
        return self._numbered(STRUCTURE)

    def _numbered(self, prefix: str) -> Float[np.ndarray, "B _"]:
        names = [name for name in self.columns if name.startswith(prefix)]
        rows = [self.columns[f"{prefix}{k}"] for k in range(len(names))]
        return np.stack(rows, axis=1) if rows else np.empty((len(self), 0), np.float32)

    @property
    def evidence(self) -> Float[np.ndarray, "B E"]:
        """What the model says of a galaxy: vectors, coordinates, the redshift by its dictionary."""
        redshift = [c[:, None] for name, c in self.columns.items() if name == REDSHIFT]
        return np.hstack([self.vectors, self.coordinates, *redshift])

    def to_table(self) -> pa.Table:
        """One row per object: id, modality, embedding, columns; the hash is in the metadata."""
        flat = pa.array(np.ascontiguousarray(self.vectors, dtype=np.float32).ravel())
        table = {
            "id": pa.array(self.ids.astype(str)),
            "modality": pa.array([self.modality] * len(self)),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1]),
            **{name: pa.array(column) for name, column in self.columns.items()},
        }
        return pa.table(table).replace_schema_metadata({"model_hash": self.model_hash})

    @classmethod
    def from_table(cls, table: pa.Table) -> "Embeddings":
        """The inverse of `to_table`; other tools may have changed types of ids and lists.

        Raises:
            ValueError: If columns or the hash are missing, or rows are of several modalities or
                lengths.
        """
        about = table.schema.metadata or {}
        if not set(RESERVED) <= set(table.column_names) or b"model_hash" not in about:
            raise ValueError(
                f"expected columns {RESERVED} and a model hash; found {table.column_names}: "
                "this is no table of embeddings"
            )
        modalities = table["modality"].unique().to_pylist()
        if len(modalities) != 1:
            raise ValueError(f"expected one modality, found {modalities}; filter the table first")
        return cls(
            ids=ids_of(as_numpy(table["id"])),
            vectors=as_vectors(table["embedding"]),
            modality=modalities[0],
            model_hash=about[b"model_hash"].decode(),
            columns={n: as_numpy(table[n]) for n in table.column_names if n not in RESERVED},
        )

    def write(self, path: str | Path) -> None:
        """Writes them whole or not at all: .parquet, .fits, or .npy.

        NumPy's format holds the vectors alone; ids, hash and columns lie beside them, as JSON.
        """
        path = Path(path)
        if path.suffix != ".npy":
            write_table(self.to_table(), path)
            return
        beside = _beside(path)
        about = self.to_table().drop_columns(["embedding"]).to_pydict()
        known = {n: [None if x != x else x for x in column] for n, column in about.items()}
        with atomic_path(beside) as names, atomic_path(path) as vectors:
            names.write_text(json.dumps({"model_hash": self.model_hash, **known}))
            np.save(vectors, np.ascontiguousarray(self.vectors, dtype=np.float32))

    @classmethod
    def read(cls, path: str | Path) -> "Embeddings":
        """Reads the .parquet or .fits that `write` wrote."""
        return cls.from_table(read_table(Path(path)))


def require_writable(path: Path) -> None:
    """Raises ValueError if neither `write` nor an index could, before hours of embedding."""
    if path.suffix not in (*SUFFIXES, STREAMED):
        expected = ", ".join((*SUFFIXES, STREAMED))
        raise ValueError(f"{path} ends in {path.suffix!r}; expected one of {expected}")
    if path.suffix == ".npy":
        _beside(path)
    require_place(path, folder=path.suffix == STREAMED)


def _beside(path: Path) -> Path:
    """The JSON that goes with an .npy; raises ValueError if that is a file of somebody else."""
    beside = path.with_suffix(".json")
    try:
        ours = not beside.exists() or "model_hash" in json.loads(beside.read_bytes())
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise ValueError(
            f"{path} needs {beside} beside it, which holds something else; choose another name"
        )
    return beside


def with_shared_columns(parts: Sequence[Embeddings]) -> list[Embeddings]:
    """Embeddings of one model, each with the columns that all of them have, of one type.

    Raises:
        ValueError: If they are of several models, or a column is text in one and not in another.
    """
    hashes = {part.model_hash for part in parts}
    if len(hashes) != 1:
        raise ValueError(f"embeddings are of models {sorted(hashes)}; expected one for all files")
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    types = {name: _common_type(name, [part.columns[name] for part in parts]) for name in shared}
    return [
        replace(p, columns={n: p.columns[n].astype(t) for n, t in types.items()}) for p in parts
    ]


def _common_type(name: str, columns: Sequence[np.ndarray]) -> np.dtype:
    if len({column.dtype.kind in "UO" for column in columns}) > 1:
        kinds = ", ".join(str(column.dtype) for column in columns)
        raise ValueError(f"column {name} is of types {kinds}; expected text in all files or none")
    return np.result_type(*columns)


def as_vectors(column: pa.Array | pa.ChunkedArray) -> Float[np.ndarray, "B D"]:
    """An Arrow column of lists as an array.

    Raises:
        ValueError: If the lists differ in length, or it holds something else.
    """
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        widths = [column.type.list_size]
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        widths = pc.list_value_length(column).unique().to_pylist()
    else:
        raise ValueError(f"embeddings are {column.type}; expected a list of numbers in each row")
    if len(widths) != 1 or not widths[0]:
        raise ValueError(f"embeddings have lengths {widths[:5]}; expected the same in each row")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate(flat, dtype=np.float32).reshape(-1, widths[0])


def named(prefix: str, numbers: Float[np.ndarray, "B K"]) -> dict[str, np.ndarray]:
    """Columns of a model's coordinates, or of structure."""
    return {f"{prefix}{k}": column for k, column in enumerate(numbers.T)}
