"""Embeddings of files and of surveys."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..align.model import Model
from ..device import Precision
from ..files import Paths
from ..progress import track
from ..search.embeddings import Embeddings
from ..survey.images import Images
from ..survey.readers import iter_images, iter_spectra, modality_of
from ..survey.rejects import Rejects
from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..survey.survey import label_columns
from ..units import PIXEL_SCALE

KEPT = ("survey", "spectype")  # columns of a survey worth filtering by, beside its labels


def embed_images(
    model: Model,
    batches: Iterable[Images],
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Embeddings:
    """Embeddings of images, batch after batch, with their positions."""
    ids, ra, dec, vectors = _joined(
        (b.ids, b.ra, b.dec, model.embed_images(b, device=device, precision=precision))
        for b in batches
    )
    return Embeddings(ids, vectors, "image", model.hash(), {"ra": ra, "dec": dec})


def embed_spectra(
    model: Model,
    batches: Iterable[Spectra],
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Embeddings:
    """Embeddings of spectra, batch after batch, with positions.

    A model with a shift dictionary adds its redshifts, `spectrum_redshift`.
    """
    measured = model.spectrum.dictionary is not None
    ids, ra, dec, vectors, *z = _joined(
        (
            b.ids,
            b.ra,
            b.dec,
            model.embed_spectra(b, device=device, precision=precision),
            *([model.redshift(b)] if measured else []),
        )
        for b in batches
    )
    columns = {"ra": ra, "dec": dec, **({"spectrum_redshift": z[0]} if measured else {})}
    return Embeddings(ids, vectors, "spectrum", model.hash(), columns)


def embed_files(
    model: Model,
    files: Paths,
    rejects: Rejects,
    *,
    pixel_scale: float = PIXEL_SCALE,
    device: str = "auto",
) -> Embeddings:
    """Embeddings of image files or of spectrum files, one after another.

    Warns if the model has seen simulated galaxies only.

    Args:
        model: An aligned model.
        files: All of one kind, which is told from their content.
        rejects: Collects what cannot be read.
        pixel_scale: Arcsec per pixel of JPEG and PNG; FITS files know theirs.
        device: Where tensors run.

    Raises:
        ValueError: If no row could be read.
    """
    if model.simulations_only:
        warnings.warn(
            "this model was trained on simulated galaxies only; check what it says of real ones",
            stacklevel=2,
        )
    if modality_of(files) == "image":
        images = iter_images(files, rejects, pixel_scale=pixel_scale)
        return embed_images(model, images, device=device)
    return embed_spectra(model, iter_spectra(files, rejects), device=device)


def embed_survey(
    model: Model,
    store: SurveyStore,
    part: str | None = None,
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> tuple[Embeddings, Embeddings]:
    """Image and spectrum embeddings of a part of a survey, in its order, with its labels."""

    def read(field: str) -> Iterator[Any]:
        batches = store.batches(part, 512, fields=(field,), shuffle=False)
        rows = len(store.rows(part))
        return track((b[field] for b in batches), f"embed {field}, {part or 'all'}", rows)

    kept = [name for name in KEPT if name in store.names]
    labels = store.columns([*kept, *label_columns(store.names).values()], part)
    images = embed_images(model, read("images"), device=device, precision=precision)
    spectra = embed_spectra(model, read("spectra"), device=device, precision=precision)
    return (
        replace(images, columns={**images.columns, **labels}),
        replace(spectra, columns={**spectra.columns, **labels}),
    )


def is_current(path: Path, model: Model, ids: np.ndarray) -> bool:
    """Whether the file holds embeddings of these galaxies by this model."""
    if not path.exists():
        return False
    made = Embeddings.read(path)
    return made.model_hash == model.hash() and np.array_equal(made.ids, ids)


def _joined(rows: Iterable[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Arrays of several batches, end to end.

    Raises:
        ValueError: If there are none.
    """
    batches = list(rows)
    if not batches:
        raise ValueError("nothing to embed: no rows were read")
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]
