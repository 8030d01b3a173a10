"""Commands that ask a finished model: convert, embed, index, search."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .options import Device, Files, Json, PixelScale, PrecisionName, RejectsBeside, show


def convert(checkpoint: str, out: Path) -> None:
    """Turn published weights into safetensors, JSON and a model card, safely.

    Parameters
    ----------
    checkpoint
        astroclip.ckpt, specformer.ckpt or a DINOv2 teacher; or a hub id: polymathic-ai/astroclip.
    out
        Folder to write; every command takes it as --model.
    """
    from .. import queries

    queries.convert(checkpoint, out)
    print(out)


def embed(
    files: Annotated[list[Path] | None, Parameter(negative="")] = None,
    *,
    model: str,
    out: Path,
    survey: Path | None = None,
    pixel_scale: PixelScale = 0.262,
    rejects: RejectsBeside = None,
    device: Device = "auto",
    precision: PrecisionName | None = None,
) -> None:
    """Embed files of images or spectra, or the held-out parts of a survey.

    Of files, an interrupted command goes on with those that are not done.

    Parameters
    ----------
    files
        All images or all spectra; kinds are known by content.
    model
        Run folder, published checkpoint or hub id.
    out
        .parquet, .fits, .npy (with .json), or .lance (an index, and memory that does not grow
        with the number of files) for files; folder for a survey.
    survey
        Survey store to embed instead of files.
    precision
        If left out, float32 for files and auto for a survey; bfloat16 is faster on processors that
        have it, and changes the third digit.
    """
    from .. import pipeline, queries

    if (survey is None) == (not files):
        raise ValueError("give files to embed, or --survey; one of them")
    if survey is not None:
        pipeline.embed(survey, model, out, device=device, precision=precision or "auto")
        print(out)
        return
    written = queries.embed_files(
        files or [],
        model,
        out,
        pixel_scale=pixel_scale,
        rejects=rejects,
        device=device,
        precision=precision or "float32",
    )
    print(written)


def index(embeddings: Files, *, out: Path) -> None:
    """Make an index for searching from embeddings of one model.

    Parameters
    ----------
    embeddings
        Parquet or FITS files that `appulse embed` wrote, of images, spectra or both.
    out
        Index to write, a Lance dataset.
    """
    from .. import queries

    print(f"{queries.index(embeddings, out)} rows in {out}")


def search(
    files: Files,
    *,
    model: str,
    index: Path,
    k: int = 10,
    where: str | None = None,
    pixel_scale: PixelScale = 0.262,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the most similar galaxies of an index for each image or spectrum.

    Parameters
    ----------
    files
        Images or spectra to ask for.
    model
        The model that made the index: run folder, published checkpoint or hub id.
    index
        Index of `appulse index` or `appulse embed --survey`.
    k
        Neighbours for each.
    where
        SQL condition, e.g. "modality = 'spectrum' and redshift_catalogue < 0.3".
    """
    from .. import queries

    found = queries.search(
        files, model, index, k=k, where=where, pixel_scale=pixel_scale, device=device
    )
    show(found, as_json)
