"""The command line: one subcommand per stage of `pipeline`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter, UnknownOptionError

from .labels import anomaly, finetune, predict
from .observations import fetch, label, pair
from .options import Device
from .posteriors import infer
from .queries import convert, embed, index, search


def _explained(error: CycloptsError) -> Any:
    """An unknown option gets all those beside it."""
    text = str(error)
    if isinstance(error, UnknownOptionError):
        group = (error.token.keyword or error.token.value).partition("=")[0].rpartition(".")[0]
        beside = [name for a in error.argument_collection for name in a.names]
        names = [name for name in beside if name.rpartition(".")[0] == group]
        text += f" There are: {', '.join(names)}." if names else ""
    return CycloptsPanel(text)


app = App(
    name="appulse",
    help="Galaxy images and spectra in one space: search, redshifts, physics.",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
    error_formatter=_explained,
)
pretrain = App(
    name="pretrain",
    help="Train one tower on its own. On several GPUs: "
    "torchrun --nproc-per-node=2 -m appulse pretrain image ...",
)
app.command(pretrain)

SEVERAL = "On several GPUs: torchrun --nproc-per-node=2 -m appulse"

# These read recipes, and so torch: they are imported when they are called.
pretrain.command(
    "appulse.cli.training:pretrain_spectrum",
    name="spectrum",
    help="Train the spectrum transformer, and what its head reads beside.\n\n"
    f"{SEVERAL} pretrain spectrum ...",
)
pretrain.command(
    "appulse.cli.training:pretrain_image",
    name="image",
    help="Train the image transformer by contrast of views, or by self-distillation (DINOv2).\n\n"
    f"{SEVERAL} pretrain image ...",
)
app.command(
    "appulse.cli.training:align",
    name="align",
    help=f"Align an image tower with a pretrained spectrum tower.\n\n{SEVERAL} align ...",
)

app.command(
    "appulse.cli.training:posterior",
    name="posterior",
    help="Learn the joint posterior of redshift, mass, age, metallicity and star formation.\n\n"
    "Labels are the survey's columns redshift, log_mstar [dex(Msun), formed], age [Gyr], log_zsol "
    "[dex(solar)] and log_ssfr [dex(1/yr)], or what its catalogue says of them, *_catalogue.",
)

for command in (
    *(fetch, pair, label, convert, embed, index, search),
    *(finetune, predict, anomaly, infer),
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


@app.command
def evaluate(
    run: str,
    *,
    survey: Path,
    out: Path,
    quick: bool = False,
    seeds: int = 3,
    runs: Annotated[dict[str, Path] | None, Parameter(name="--run")] = None,
    processes: int = 1,
    device: Device = "auto",
) -> None:
    """Score a model beside every baseline; write report.html, results.json and figures.

    An interrupted evaluation goes on where it stopped.

    Parameters
    ----------
    run
        Run folder of `appulse align`, published checkpoint or hub id.
    survey
        Survey store with labels; the model is scored on its test part.
    out
        Folder for the report.
    quick
        Minutes instead of hours: without networks from pixels, MoCo v2 and feature towers.
    seeds
        How often to train what depends on chance.
    runs
        Run folders whose learning curves to show, and pretrained towers to score without
        alignment: --run.spectrum demo/spectrum.
    processes
        That share the methods, each with its part of the cores and up to 2.5 GB.
    """
    from .. import pipeline

    pipeline.evaluate(
        *(run, survey, out),
        runs=runs,
        quick=quick,
        seeds=seeds,
        device=device,
        processes=processes,
    )
    print(out / "report.html")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `appulse`: errors that a user can mend are printed without a traceback."""
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"appulse: {error}")
