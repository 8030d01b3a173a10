"""Commands for one's own labels and for odd galaxies: finetune, predict, anomaly."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .options import Device, Files, Json, PixelScale, RejectsBeside, show


def finetune(
    table: Path,
    *,
    target: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    model: str,
    out: Path,
    files: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    survey: Path | None = None,
    modality: Literal["image", "spectrum"] = "image",
    blocks: int = 0,
    pixel_scale: PixelScale = 0.262,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Teach a model your own labels, from a few hundred galaxies, and score it on 15 % of them.

    Parameters
    ----------
    table
        FITS, HDF5, Parquet, ECSV or CSV with ids and labels.
    target
        Columns of numbers, which are learned together, or one of class names.
    model
        Run folder, published checkpoint or hub id.
    out
        Run folder to write, for `appulse predict`.
    files
        Images or spectra of these galaxies; others among them are left out.
    survey
        Survey store, instead of files.
    modality
        What of the survey to read.
    blocks
        Last blocks of the tower that learn too: slower, better where embeddings say too little.
    """
    from .. import queries

    if (survey is None) == (not files):
        raise ValueError("give --files or --survey; one of them")
    scores = queries.finetune(
        table,
        target,
        model,
        out,
        files=files,
        survey=survey,
        modality=modality,
        blocks=blocks,
        pixel_scale=pixel_scale,
        device=device,
    )
    show(scores, as_json)


def predict(
    files: Files,
    *,
    model: Path,
    out: Path,
    pixel_scale: PixelScale = 0.262,
    rejects: RejectsBeside = None,
    device: Device = "auto",
) -> None:
    """Say what a fine-tuned model makes of files of images or spectra.

    Parameters
    ----------
    files
        Images or spectra, as it was taught.
    model
        Run folder of `appulse finetune`.
    out
        .parquet or .fits to write.
    """
    from .. import queries

    written = queries.predict(
        files, model, out, pixel_scale=pixel_scale, rejects=rejects, device=device
    )
    print(written)


def anomaly(
    embeddings: Path, *, reference: Path, out: Path, seed: int = 0, as_json: Json = False
) -> None:
    """Find galaxies unlike others, by distance to neighbours and by a flow's density.

    Chances are shares of the reference that are as odd; the table begins with the oddest.

    Parameters
    ----------
    embeddings
        Parquet or FITS of `appulse embed`.
    reference
        The same of other galaxies by the same model.
    out
        .parquet or .fits to write.
    seed
        Which part of the reference is compared with.
    """
    from .. import queries

    show(queries.anomaly(embeddings, reference, out, seed=seed), as_json)
