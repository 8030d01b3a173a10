"""What the methods of an evaluation are run on: galaxies as labels, embeddings and pixels."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from .measured import Measured, measure
from .results import Columns, labelled
from .sample import PARTS, Embedded, Sample

LENGTH = 3.0  # of an embedding beside coordinates: each has about the scatter of all of them


@dataclass(frozen=True, eq=False)
class Study:
    """Galaxies, what is known of them, and how thoroughly to ask.

    Attributes:
        sample: The galaxies.
        embedded: Their embeddings, of the sample's rows; see `Sample.choose`.
        work: Folder for trainings that are under way.
        seeds: To train with.
        counts: Of labelled galaxies to learn from, beside all.
        device: Where to train.
    """

    sample: Sample
    embedded: Embedded
    work: Path
    seeds: Sequence[int] = (0,)
    counts: Sequence[int] = ()
    device: str = field(default="auto", kw_only=True)

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """What the baselines look at, by part; read from the pixels when first asked for."""
        return measure(self.sample)

    @property
    def labels(self) -> dict[str, Columns]:
        """Labels by part."""
        return self.sample.labels

    @property
    def model_hash(self) -> str:
        """Of the model that made the embeddings."""
        return self.embedded["test"][0].model_hash

    def vectors(self, modality: str) -> dict[str, np.ndarray]:
        """Embeddings of images or spectra, by part."""
        place = ("image", "spectrum").index(modality)
        return {part: self.embedded[part][place].vectors for part in PARTS}

    def coordinates(self, modality: str) -> dict[str, np.ndarray]:
        """What the model measures of spectra or expects given images, by part; (B, 0) if nothing.

        As they are: their distances mean something.
        """
        place = ("image", "spectrum").index(modality)
        return {part: self.embedded[part][place].coordinates for part in PARTS}

    def features(self, modality: str) -> dict[str, np.ndarray]:
        """Embeddings, and coordinates in units of their scatter, by part: all that a model says."""
        vectors, coordinates = self.vectors(modality), self.coordinates(modality)
        scatter = coordinates["head-train"].std(axis=0)
        unit = np.where(scatter > 0, scatter, 1)
        return {p: np.hstack([LENGTH * vectors[p], coordinates[p] / unit]) for p in PARTS}

    def structure(self) -> dict[str, np.ndarray]:
        """Structure of the images in units of its scatter, by part; (B, 0) if it is not known."""
        found = {part: self.embedded[part][0].structure for part in PARTS}
        scatter = found["head-train"].std(axis=0)
        return {part: values / np.where(scatter > 0, scatter, 1) for part, values in found.items()}

    @cached_property
    def labelled(self) -> Int[np.ndarray, "_"]:
        """Rows of head-train of which some label is known."""
        return np.flatnonzero(labelled(self.labels["head-train"]))

    @property
    def training_sizes(self) -> list[tuple[int | None, Sequence[int]]]:
        """How many labelled galaxies to learn from, None for all, each with its seeds."""
        there = len(self.labelled)
        return [(None, self.seeds), *((n, self.seeds) for n in self.counts if n < there)]

    def chosen(self, count: int | None, seed: int) -> Int[np.ndarray, "_"]:
        """Rows of head-train to learn from: so many labelled ones, at random, or all rows."""
        if count is None:
            return np.arange(len(self.sample.rows("head-train")))
        return np.sort(np.random.default_rng(seed).permutation(self.labelled)[:count])

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder for a training, where an interrupted one goes on; gone when all is well."""
        yield self.work / name
        shutil.rmtree(self.work / name, ignore_errors=True)


def fewer(by_part: Mapping[str, Any], rows: Int[np.ndarray, "_"]) -> dict[str, Any]:
    """Features or labels by part, of head-train only some rows."""
    here = by_part["head-train"]
    some = {n: v[rows] for n, v in here.items()} if isinstance(here, Mapping) else here[rows]
    return {**by_part, "head-train": some}
