"""The command line: one subcommand per stage of `pipeline`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

app = App(
    name="appulse",
    help="Galaxy images and spectra in one space: search, redshifts, physics.",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
pretrain = App(name="pretrain", help="Train one tower on its own.")
app.command(pretrain)

Files = Annotated[list[Path], Parameter(consume_multiple=True, negative="")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Where tensors run.")]
PixelScale = Annotated[
    float, Parameter(help="Arcsec per pixel of JPEG and PNG; FITS files know theirs.")
]
RejectsTable = Annotated[
    Path | None,
    Parameter(help="Table (.csv or .parquet) of rows that could not be read, and why."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


@app.command
def demo(
    *, out: Path = Path("demo"), n: int = 16_000, seed: int = 0, device: Device = "auto"
) -> None:
    """Run everything on simulated galaxies and write report.html.

    Parameters
    ----------
    out
        Folder for survey, runs and report; an interrupted demo goes on there.
    n
        Number of galaxies.
    seed
        Which synthetic universe.
    """
    from . import pipeline

    print(pipeline.demo(out, n=n, seed=seed, device=device))


@app.command
def simulate(
    *,
    out: Path,
    n: int = 20_000,
    seed: int = 0,
    size: Literal[64, 96, 152] = 96,
    population: Literal["bgs", "lrg", "elg", "qso", "star", "mixed"] = "bgs",
    processes: int | None = None,
) -> None:
    """Simulate pairs of image and spectrum with known truth.

    Parameters
    ----------
    out
        Survey store to write; one that is there is continued up to n galaxies.
    n
        Number of galaxies.
    seed
        Which synthetic universe.
    size
        Pixels of a cutout, 0.262 arcsec each.
    population
        Class of DESI's targets; mixed has all by their number on the sky.
    processes
        Worker processes; one per core if left out. The galaxies are the same.
    """
    from . import pipeline

    store = pipeline.simulate(
        n, out, seed=seed, size=size, processes=processes, population=population
    )
    print(f"{len(store)} galaxies in {out}")


@app.command
def pair(
    *,
    images: Files,
    spectra: Files,
    out: Path,
    radius: float = 1.0,
    by: Literal["position", "id"] = "position",
    size: int = 152,
    pixel_scale: PixelScale = 0.262,
    rejects: RejectsTable = None,
    as_json: Json = False,
) -> None:
    """Pair image files with spectrum files, by position or by id, into a survey store.

    Parameters
    ----------
    images
        Legacy Surveys FITS cutouts, JPEG or PNG of the viewer.
    spectra
        DESI coadds, SDSS spec files, HDF5 or npz tables.
    out
        Survey store to write.
    radius
        Largest separation of a pair, arcsec.
    by
        Match positions on the sky, or names.
    size
        Images are cropped or padded to this many pixels.
    """
    from . import pipeline

    report = pipeline.pair(
        images,
        spectra,
        out,
        radius=radius,
        by=by,
        size=size,
        pixel_scale=pixel_scale,
        rejects=rejects,
    )
    _print(report, as_json)


@pretrain.command(name="spectrum")
def pretrain_spectrum(*, survey: Path, out: Path, device: Device = "auto") -> None:
    """Train the spectrum transformer by masked modelling, and the shift dictionary.

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    out
        Run folder; an unfinished run there goes on.
    """
    from . import pipeline

    pipeline.pretrain_spectrum(survey, out, device=device)
    print(out)


@app.command
def align(*, survey: Path, spectrum: Path, out: Path, device: Device = "auto") -> None:
    """Align an image tower with a pretrained spectrum tower by contrastive learning.

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    spectrum
        Run folder of `appulse pretrain spectrum`.
    out
        Run folder; an unfinished run there goes on.
    """
    from . import pipeline

    pipeline.align(survey, spectrum, out, device=device)
    print(out)


@app.command
def embed(
    files: Annotated[list[Path] | None, Parameter(negative="")] = None,
    *,
    model: Path,
    out: Path,
    survey: Path | None = None,
    pixel_scale: PixelScale = 0.262,
    rejects: RejectsTable = None,
    device: Device = "auto",
) -> None:
    """Embed files of images or spectra, or the held-out parts of a survey.

    Parameters
    ----------
    files
        All images or all spectra; kinds are known by content.
    model
        Run folder of `appulse align`.
    out
        Parquet file for files; folder for a survey.
    survey
        Survey store to embed instead of files.
    """
    from . import pipeline

    if (survey is None) == (not files):
        raise ValueError("give files to embed, or --survey; one of them")
    if survey is not None:
        pipeline.embed(survey, model, out, device=device)
    else:
        pipeline.embed_files(
            files or [], model, out, pixel_scale=pixel_scale, rejects=rejects, device=device
        )
    print(out)


@app.command
def index(embeddings: list[Path], *, out: Path) -> None:
    """Make an index for searching from embeddings of one model.

    Parameters
    ----------
    embeddings
        Parquet files that `appulse embed` wrote, of images, spectra or both.
    out
        Index to write, a Lance dataset.
    """
    from . import pipeline

    print(f"{pipeline.index(embeddings, out)} rows in {out}")


@app.command
def search(
    files: list[Path],
    *,
    model: Path,
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
        Run folder of the model that made the index.
    index
        Index of `appulse index` or `appulse embed --survey`.
    k
        Neighbours for each.
    where
        SQL condition, e.g. "modality = 'spectrum' and redshift < 0.3".
    """
    from . import pipeline

    found = pipeline.search(
        files, model, index, k=k, where=where, pixel_scale=pixel_scale, device=device
    )
    _print(found, as_json)


@app.command
def evaluate(
    *,
    survey: Path,
    embeddings: Path,
    out: Path,
    runs: Annotated[dict[str, Path] | None, Parameter(name="--run")] = None,
) -> None:
    """Score embeddings beside every baseline; write report.html and results.json.

    Parameters
    ----------
    survey
        Survey store.
    embeddings
        Folder that `appulse embed --survey` wrote.
    out
        Folder for the report.
    runs
        Run folders whose learning curves to show: --run.alignment demo/align.
    """
    from . import pipeline

    pipeline.evaluate(survey, embeddings, runs or {}, out)
    print(out / "report.html")


def _print(rows: Any, as_json: bool) -> None:
    """Rows or a summary, for people or for programs."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich import print as pretty

    pretty(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `appulse`: errors that a user can mend are printed without a traceback."""
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"appulse: {error}")
