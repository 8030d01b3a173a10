"""Galaxies with somebody's own labels: a table says them by id.

Shapes: B galaxies, P properties.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..files import Paths
from ..search.embeddings import Modality
from ..survey.catalogue import read_columns
from ..survey.images import Images
from ..survey.positions import ID_NAMES, find, positions_of
from ..survey.readers import iter_images, iter_spectra, modality_of
from ..survey.rejects import Rejects
from ..survey.resample import fit, to_scale
from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..units import PIXEL_SCALE
from .targets import Targets

Galaxies = Images | Spectra
Part = TypeVar("Part", Images, Spectra)
SHARES = (0.7, 0.85)  # where those to learn from and those to stop at end; the rest is scored


@dataclass(frozen=True, eq=False)
class Labels:
    """Targets by id: properties, shape (B, P), NaN where unknown, or class names, shape (B,)."""

    ids: np.ndarray
    y: Targets

    @classmethod
    def read(cls, path: Path, names: Sequence[str]) -> "Labels":
        """Columns of a table; rows without any label are left out.

        Raises:
            ValueError: If ids or columns are missing, ids repeat, or the columns are neither
                numbers nor one of names.
        """

        def choose(there: Sequence[str]) -> list[str]:
            id_name = find(there, ID_NAMES)
            missing = [name for name in names if name not in there]
            if missing or id_name is None:
                wanted = ", ".join([*missing, *(["one of " + "/".join(ID_NAMES)] * (not id_name))])
                raise ValueError(f"{path} lacks {wanted}; its columns are {', '.join(there)}")
            return [id_name, *names]

        columns = read_columns(path, choose)
        ids, values = positions_of(columns).ids, [columns[name] for name in names]
        y, known = _targets(values, names)
        ids, y = ids[known], y[known]
        unique, count = np.unique(ids, return_counts=True)
        if (count > 1).any():
            raise ValueError(f"{path} labels {str(unique[count > 1][0])!r} twice; expected once")
        return cls(ids, y)

    def of(self, ids: np.ndarray) -> Targets:
        """Those of some galaxies, all of which have labels."""
        order = np.argsort(self.ids)
        return self.y[order[np.searchsorted(self.ids, ids, sorter=order)]]


def _targets(values: list[np.ndarray], names: Sequence[str]) -> tuple[Targets, np.ndarray]:
    if all(value.ndim == 1 and value.dtype.kind in "fiu" for value in values):
        y = np.stack(values, axis=1).astype(np.float64)
        return y, np.asarray(np.isfinite(y).any(axis=1))
    if len(values) == 1 and values[0].dtype.kind == "U":
        return values[0], np.asarray(values[0] != "")
    kinds = ", ".join(f"{name} {v.dtype}" for name, v in zip(names, values, strict=True))
    raise ValueError(f"the targets are {kinds}; expected numbers, or one column of class names")


def labelled_files(files: Paths, labels: Labels, pixel_scale: float = PIXEL_SCALE) -> Galaxies:
    """The images or spectra in the files that have labels; smaller images are padded.

    Images of several pixel scales are resampled to 0.262″.

    Raises:
        ValueError: On a file that cannot be read, or if no galaxy has a label.
    """
    rejects = Rejects(strict=True)
    if modality_of(files) == "spectrum":
        return Spectra.concatenate(_labelled(iter_spectra(files, rejects), labels))
    images = _labelled(iter_images(files, rejects, pixel_scale=pixel_scale), labels)
    if len(np.unique(np.concatenate([part.pixel_scale for part in images]))) > 1:
        images = [to_scale(part) for part in images]
    size = max(max(part.flux.shape[2:]) for part in images)
    return Images.concatenate([fit(part, size) for part in images])


def labelled_survey(store: SurveyStore, labels: Labels, modality: Modality) -> Galaxies:
    """Images or spectra of the survey's galaxies that have labels, but those of encoder-train.

    Embeddings of galaxies that a tower was trained on are not like those of others: learned from,
    they mislead; held out, they flatter.

    Raises:
        ValueError: If there is none.
    """
    ids = store.columns(["targetid"])["targetid"]
    matched = np.flatnonzero(np.isin(ids, labels.ids))
    if not len(matched):
        raise _unmatched(ids, labels)
    rows = np.setdiff1d(matched, store.rows("encoder-train"))
    if not len(rows):
        raise ValueError(
            f"the {len(matched)} galaxies with labels are all of encoder-train, which towers learn "
            "from; expected some of other parts: label those"
        )
    field = "images" if modality == "image" else "spectra"
    return store.take(rows, [field])[field]


def parts_of(ids: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from, to stop at and, one of each galaxy, to score; galaxies stay together."""
    _, first, galaxy = np.unique(ids, return_index=True, return_inverse=True)
    number = first.argsort().argsort()[galaxy]  # galaxies in the order they come
    place = np.random.default_rng(seed).permutation(len(first)).argsort()[number]
    order = place.argsort(kind="stable")
    ends = np.searchsorted(place[order], [int(share * len(first)) for share in SHARES])
    fit, stop, test = np.split(order, ends)
    return fit, stop, test[np.isin(test, first)]


def _labelled(batches: Iterable[Part], labels: Labels) -> list[Part]:
    seen, parts = [], []
    for batch in batches:
        rows = np.flatnonzero(np.isin(batch.ids, labels.ids))
        seen.append(batch.ids)
        if len(rows):
            parts.append(batch[rows])
    if not parts:
        raise _unmatched(np.concatenate(seen), labels)
    return parts


def _unmatched(ids: np.ndarray, labels: Labels) -> ValueError:
    return ValueError(
        f"no galaxy has a label: their ids are like {ids[:2].tolist()}, the table's like "
        f"{labels.ids[:2].tolist()}"
    )
