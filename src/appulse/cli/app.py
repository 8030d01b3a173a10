"""The command line: one subcommand per stage of `pipeline`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from .labels import anomaly, finetune, predict
from .observations import fetch, label, pair
from .options import Device, RecipeName
from .queries import convert, embed, index, search

app = App(
    name="appulse",
    help="Galaxy images and spectra in one space: search, redshifts, physics.",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
pretrain = App(
    name="pretrain",
    help="Train one tower on its own. On several GPUs: "
    "torchrun --nproc-per-node=2 -m appulse pretrain image ...",
)
app.command(pretrain)

for command in (
    *(fetch, pair, label, convert, embed, index, search),
    *(finetune, predict, anomaly),
):
    app.command(command)


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
    from .. import pipeline

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
    from .. import pipeline

    store = pipeline.simulate(
        n, out, seed=seed, size=size, processes=processes, population=population
    )
    print(f"{len(store)} galaxies in {out}")


@pretrain.command(name="spectrum")
def pretrain_spectrum(
    *, survey: Path, out: Path, recipe: RecipeName = "tiny", device: Device = "auto"
) -> None:
    """Train the spectrum transformer by masked modelling, and the shift dictionary.

    On several GPUs: torchrun --nproc-per-node=2 -m appulse pretrain spectrum ...

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    out
        Run folder; an unfinished run there goes on.
    """
    from .. import pipeline, recipes

    pipeline.pretrain_spectrum(survey, out, getattr(recipes, recipe)(), device=device)
    print(out)


@pretrain.command(name="image")
def pretrain_image(
    *, survey: Path, out: Path, recipe: RecipeName = "tiny", device: Device = "auto"
) -> None:
    """Train the image transformer by self-distillation (DINOv2).

    On several GPUs: torchrun --nproc-per-node=2 -m appulse pretrain image ...

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    out
        Run folder; an unfinished run there goes on.
    """
    from .. import pipeline, recipes

    pipeline.pretrain_image(survey, out, getattr(recipes, recipe)(), device=device)
    print(out)


@app.command
def align(
    *,
    survey: Path,
    spectrum: Path,
    out: Path,
    image: Path | None = None,
    recipe: RecipeName = "tiny",
    device: Device = "auto",
) -> None:
    """Align an image tower with a pretrained spectrum tower by contrastive learning.

    On several GPUs: torchrun --nproc-per-node=2 -m appulse align ...

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    spectrum
        Run folder of `appulse pretrain spectrum`.
    out
        Run folder; an unfinished run there goes on.
    image
        Run folder of `appulse pretrain image` to start from; at random if left out, but needed for
        the recipe `paper`, whose trunks stay as they are.
    """
    from .. import pipeline, recipes

    made = getattr(recipes, recipe)()
    pipeline.align(survey, spectrum, out, made, image_run=image, device=device)
    print(out)


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
    from .. import pipeline

    pipeline.evaluate(survey, embeddings, runs or {}, out)
    print(out / "report.html")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `appulse`: errors that a user can mend are printed without a traceback."""
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"appulse: {error}")
