"""The command line: one subcommand per stage."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(
    name="appulse",
    help="Galaxy images and spectra in one space: search, redshifts, physics.",
)
pretrain = App(name="pretrain", help="Train one tower on its own.")
app.command(pretrain)

Many = Annotated[list[Path], Parameter(consume_multiple=True)]
Device = Literal["auto", "cpu", "cuda", "mps"]


@app.command
def demo(
    *, out: Path = Path("demo"), n: int = 16_000, seed: int = 0, device: Device = "auto"
) -> None:
    """Run everything on simulated galaxies: simulate, pretrain, align, embed, evaluate.

    Parameters
    ----------
    out
        Folder for survey, runs and report.html; an interrupted demo goes on there.
    n
        Number of galaxies.
    seed
        Which synthetic universe.
    device
        Where tensors run.
    """
    from . import pipeline

    print(pipeline.demo(out, n=n, seed=seed, device=device))


def main() -> None:
    """Entry point of `appulse`."""
    app()
