"""Embeddings of files and of surveys, all at once or as a stream that fits any memory."""

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from ..align.model import Model
from ..device import Precision
from ..files import Paths, expand_paths
from ..progress import track
from ..search.embeddings import COORDINATE, REDSHIFT, STRUCTURE, Embeddings, Modality, named
from ..survey.images import Images
from ..survey.readers import iter_images, iter_spectra, modality_of
from ..survey.rejects import Rejects
from ..survey.resample import SCALE_TOLERANCE
from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..survey.survey import label_columns
from ..units import PIXEL_SCALE

Galaxies = TypeVar("Galaxies", Images, Spectra)

KEPT = ("survey", "spectype")  # columns of a survey worth filtering by, beside its labels


def embed_images(
    model: Model,
    batches: Iterable[Images],
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Embeddings:
    """Embeddings of images, batch after batch, with positions, coordinates and structure.

    Coordinates are what the model expects of the spectrum, see `Model.coordinates`.
    """
    return joined(stream_images(model, batches, device=device, precision=precision))


def embed_spectra(
    model: Model,
    batches: Iterable[Spectra],
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Embeddings:
    """Embeddings of spectra, batch after batch, with positions and coordinates.

    A model with a shift dictionary adds its redshifts, `spectrum_redshift`.
    """
    return joined(stream_spectra(model, batches, device=device, precision=precision))


def stream_images(
    model: Model,
    batches: Iterable[Images],
    *,
    device: str,
    precision: Precision,
    rejects: Rejects | None = None,
) -> Iterator[Embeddings]:
    """As `embed_images`, but as many galaxies at a time as the model takes at once.

    Those whose vectors are not finite go to `rejects`; without it, the first one raises.
    """
    name = model.hash()
    for b in _regrouped(batches, model.image.batch_size):
        made = model.describe(b, device=device, precision=precision)
        beside = named(COORDINATE, made.coordinates) | named(STRUCTURE, made.structure)
        columns = {"ra": b.ra, "dec": b.dec, **beside}
        embeddings = Embeddings(b.ids, made.vectors, "image", name, columns)
        yield from _finite(embeddings, "finite flux", rejects)


def stream_spectra(
    model: Model,
    batches: Iterable[Spectra],
    *,
    device: str,
    precision: Precision,
    rejects: Rejects | None = None,
) -> Iterator[Embeddings]:
    """As `embed_spectra`, but as many galaxies at a time as the model takes at once.

    Those whose vectors are not finite go to `rejects`; without it, the first one raises.
    """
    name = model.hash()
    for b in _regrouped(batches, model.spectrum.batch_size):
        made = model.describe(b, device=device, precision=precision)
        z = {REDSHIFT: made.redshift[:, 0]} if made.redshift.size else {}
        columns = {"ra": b.ra, "dec": b.dec, **z, **named(COORDINATE, made.coordinates)}
        embeddings = Embeddings(b.ids, made.vectors, "spectrum", name, columns)
        yield from _finite(embeddings, _visible(model), rejects)


def _visible(model: Model) -> str:
    """What a spectrum must have."""
    dictionary = model.spectrum.dictionary
    if dictionary is None:
        return "finite flux"
    grid = dictionary.config
    red = grid.blue * math.exp(grid.bin * grid.bins)
    return f"good pixels within {grid.blue:.0f}–{red:.0f} Å"


def _finite(made: Embeddings, expected: str, rejects: Rejects | None) -> Iterator[Embeddings]:
    """The rows whose vectors are numbers, if there are any; others are set aside by their ids."""
    rejects = Rejects(strict=True) if rejects is None else rejects
    good = np.isfinite(made.vectors).all(axis=1)
    for name in made.ids[~good]:
        reason = f"its embedding is not finite; expected {expected}"
        rejects.add(f"{made.modality} {str(name)!r}", None, reason)
    if good.any():
        yield made[good]


def embed_files(
    model: Model,
    files: Paths,
    rejects: Rejects,
    *,
    pixel_scale: float = PIXEL_SCALE,
    device: str = "auto",
    precision: Precision = "float32",
) -> Embeddings:
    """Embeddings of image files or of spectrum files, which is told from their content."""
    options: dict[str, Any] = {"device": device, "precision": precision}
    modality, paths = modality_of(files), expand_paths(files)
    return joined(stream_files(model, modality, paths, rejects, pixel_scale=pixel_scale, **options))


def stream_files(
    model: Model,
    modality: Modality,
    files: Iterable[Path],
    rejects: Rejects,
    *,
    pixel_scale: float = PIXEL_SCALE,
    device: str = "auto",
    precision: Precision = "float32",
) -> Iterator[Embeddings]:
    """Embeddings of image files or of spectrum files, one after another, a batch at a time.

    Warns if the model has seen simulated galaxies only.

    Args:
        model: An aligned model.
        modality: What the files hold.
        files: Read as batches ask for them.
        rejects: Collects what cannot be read or embedded.
        pixel_scale: Arcsec per pixel of JPEG and PNG; FITS files know theirs.
        device: Where tensors run.
        precision: "bfloat16" is faster where the processor has it, and differs in the third digit.
    """
    if model.simulations_only:
        warnings.warn(
            "this model was trained on simulated galaxies only; check what it says of real ones",
            stacklevel=2,
        )
    stream = stream_images if modality == "image" else stream_spectra
    batches = read_files(modality, files, rejects, pixel_scale)
    return stream(model, batches, device=device, precision=precision, rejects=rejects)


def read_files(
    modality: Modality, files: Iterable[Path], rejects: Rejects, pixel_scale: float = PIXEL_SCALE
) -> Iterator[Any]:
    """Images or spectra, one file after another."""
    read: Any = partial(iter_spectra, rejects=rejects)
    if modality == "image":
        read = partial(iter_images, rejects=rejects, pixel_scale=pixel_scale)
    return chain.from_iterable(map(read, files))


def embed_survey(
    model: Model,
    store: SurveyStore,
    part: str | None = None,
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> tuple[Embeddings, Embeddings]:
    """Image and spectrum embeddings of a part of a survey, in its order, with its labels.

    Raises:
        ValueError: If a vector is not finite: rows and labels must go together.
    """

    def read(field: str) -> Iterator[Any]:
        batches = store.batches(part, 128, fields=(field,), shuffle=False)
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


def _regrouped(batches: Iterable[Galaxies], size: int) -> Iterator[Galaxies]:
    """The same rows in batches of at least `size`, fewer where images or grids change: a file of
    one galaxy does not fill a network.
    """
    for _, alike in groupby(chain.from_iterable(map(_by_scale, batches)), _kind):
        kept: list[Galaxies] = []
        for batch in alike:
            kept.append(batch)
            if sum(map(len, kept)) >= size:
                yield batch if len(kept) == 1 else batch.concatenate(kept)
                kept = []
        if kept:
            yield kept[0].concatenate(kept)


def _by_scale(batch: Galaxies) -> Iterator[Galaxies]:
    """Runs of rows of one pixel scale; spectra are one run."""
    ends: list[int] = (np.flatnonzero(np.diff(_scales(batch))) + 1).tolist()
    for start, end in pairwise([0, *ends, len(batch)]):
        yield batch[start:end]


def _kind(batch: Images | Spectra) -> tuple[Any, ...]:
    """What batches share that can be one."""
    return batch.flux.shape[1:], getattr(batch, "kind", None), float(_scales(batch)[0])


def _scales(batch: Images | Spectra) -> Float[np.ndarray, "B"]:
    """Pixel scales of images, those that count as 0.262″ alike; 0 of spectra."""
    if isinstance(batch, Spectra):
        return np.zeros(len(batch))
    near = np.abs(batch.pixel_scale / PIXEL_SCALE - 1) < SCALE_TOLERANCE
    return np.where(near, PIXEL_SCALE, batch.pixel_scale)


def joined(stream: Iterable[Embeddings]) -> Embeddings:
    """A stream of embeddings as one.

    Raises:
        ValueError: If there are none.
    """
    parts = list(stream)
    if not parts:
        raise ValueError("nothing to embed: no rows were read")
    return Embeddings.concatenate(parts)
