"""Which galaxies of a survey are learned from and scored: parts that never mix.

Shapes: B galaxies, N those of earlier parts.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from jaxtyping import Bool, Float, Int

from ..search.embeddings import Embeddings
from ..survey.store import SurveyStore
from ..survey.survey import label_columns
from .results import Columns

PARTS = ("head-train", "validation", "test")
APART = 20.0  # arcsec; half of a cutout of 152 pixels: what is nearer is in the same picture

Embedded = Mapping[str, tuple[Embeddings, Embeddings]]  # image and spectrum, by part


@dataclass(frozen=True, eq=False)
class Sample:
    """Galaxies of each part but those that galaxies of earlier parts share a cutout with.

    Attributes:
        store: The survey.
        kept: Which galaxies of each of `PARTS`, in the store's order, are in the sample.
    """

    store: SurveyStore
    kept: Mapping[str, Bool[np.ndarray, "_"]] = field(repr=False)

    @classmethod
    def of(cls, store: SurveyStore) -> "Sample":
        """Leaves out who is within 20″ of an earlier part's galaxy; encoder-train comes first.

        Simulated galaxies are all different ones, wherever they are said to be.
        """
        kept, before = {}, np.empty((0, 2))
        for part in ("encoder-train", *PARTS):
            here = _positions(store, part)
            if part in PARTS:
                kept[part] = ~crowded(here, before)
            before = np.concatenate([before, here])
        return cls(store, kept)

    @cached_property
    def labels(self) -> dict[str, Columns]:
        """Labels by part and by what they are of."""
        return {
            part: {name: values[kept] for name, values in labels_of(self.store, part).items()}
            for part, kept in self.kept.items()
        }

    def rows(self, part: str) -> Int[np.ndarray, "_"]:
        """Numbers of the store's rows; all of encoder-train."""
        rows = self.store.rows(part)
        return rows[self.kept[part]] if part in self.kept else rows

    def choose(self, embedded: Embedded) -> Embedded:
        """The sample's rows of embeddings of the whole parts.

        Raises:
            ValueError: If the embeddings are not the store's galaxies, or of several models.
        """
        for part, pair in embedded.items():
            ids = self.store.columns(["targetid"], part)["targetid"]
            if not all(np.array_equal(embeddings.ids, ids) for embeddings in pair):
                raise ValueError(
                    f"embeddings of part {part!r} are not those of the survey's {len(ids)} "
                    "galaxies, in its order; run `appulse embed --survey` again"
                )
        hashes = {embeddings.model_hash for pair in embedded.values() for embeddings in pair}
        if len(hashes) > 1:
            raise ValueError(
                f"embeddings are of models {sorted(hashes)}; expected one for all parts"
            )
        return {
            part: (image[self.kept[part]], spectrum[self.kept[part]])
            for part, (image, spectrum) in embedded.items()
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Names galaxies, parts and labels: what any score depends on."""
        sha = hashlib.sha256()
        for part in PARTS:
            sha.update(self.kept[part].tobytes())
            for name, values in self.labels[part].items():
                sha.update(f"{part} {name} {values.tolist()}".encode())
        split = self.store.split.to_json()
        return {"survey": self.store.identity, "split": split, "labels": sha.hexdigest()[:16]}

    def describe(self) -> dict[str, str]:
        """The protocol in words, for a report."""
        parts = {part: len(self.rows(part)) for part in ("encoder-train", *PARTS)}
        how = "cell of the sky" if self.store.split.by == "sky" else "hashed id"
        return {
            "parts": ", ".join(f"{part} {n:,}" for part, n in parts.items()) + f", by {how}",
            "duplicates": f"one row per id, and per place within 1″; {self._apart()}",
        }

    def _apart(self) -> str:
        if self.store.surveys == ["synthetic"]:
            return "all simulated, so none is seen twice"
        left_out = sum(int((~kept).sum()) for kept in self.kept.values())
        said = f"{left_out:,} left out within {APART:.0f}″ of a galaxy of an earlier part"
        places = (_positions(self.store, part) for part in ("encoder-train", *PARTS))
        unplaced = sum(int(np.isnan(place).any(axis=1).sum()) for place in places)
        if unplaced:
            said += f"; {unplaced:,} have no position, so what is near them is not known"
        return said


def labels_of(store: SurveyStore, part: str) -> Columns:
    """Labels of a part's galaxies by what they are of, whatever their columns are called."""
    columns = label_columns(store.names)
    values = store.columns(list(columns.values()), part)
    return {label: values[column] for label, column in columns.items()}


def crowded(
    here: Float[np.ndarray, "B 2"], before: Float[np.ndarray, "N 2"]
) -> Bool[np.ndarray, "B"]:
    """Which positions (degrees, NaN where unknown) have one of the others within 20″."""
    near = np.zeros(len(here), dtype=bool)
    placed, others = np.isfinite(here).all(1), before[np.isfinite(before).all(1)]
    if placed.any() and len(others):
        distance = _sky(here[placed]).match_to_catalog_sky(_sky(others))[1]
        near[placed] = distance.arcsec < APART
    return near


def _sky(positions: Float[np.ndarray, "B 2"]) -> SkyCoord:
    return SkyCoord(positions * units.deg)


def _positions(store: SurveyStore, part: str) -> Float[np.ndarray, "B 2"]:
    """Right ascension and declination; unknown for simulations, where they mean nothing."""
    if store.surveys == ["synthetic"] or not {"ra", "dec"} <= set(store.names):
        return np.full((len(store.rows(part)), 2), np.nan)
    columns = store.columns(["ra", "dec"], part)
    return np.stack([columns["ra"], columns["dec"]], axis=1)
