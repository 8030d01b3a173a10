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
from ..survey.resample import fit
from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..units import PIXEL_SCALE
from .targets import Targets

Galaxies = Images | Spectra
Part = TypeVar("Part", Images, Spectra)


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

    Raises:
        ValueError: On a file that cannot be read, or if no galaxy has a label.
    """
    rejects = Rejects(strict=True)
    if modality_of(files) == "spectrum":
        return Spectra.concatenate(_labelled(iter_spectra(files, rejects), labels))
    images = _labelled(iter_images(files, rejects, pixel_scale=pixel_scale), labels)
    size = max(max(part.flux.shape[2:]) for part in images)
    return Images.concatenate([fit(part, size) for part in images])


def labelled_survey(store: SurveyStore, labels: Labels, modality: Modality) -> Galaxies:
    """Images or spectra of the survey's galaxies that have labels.

    Raises:
        ValueError: If none has.
    """
    ids = store.columns(["targetid"])["targetid"]
    rows = np.flatnonzero(np.isin(ids, labels.ids))
    if not len(rows):
        raise _unmatched(ids, labels)
    field = "images" if modality == "image" else "spectra"
    return store.take(rows, [field])[field]


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
