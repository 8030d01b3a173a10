"""What several commands share: options, and printing results."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Files = Annotated[list[Path], Parameter(consume_multiple=True, negative="")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Where tensors run.")]
PrecisionName = Literal["auto", "float32", "bfloat16"]
RecipeName = Annotated[
    Literal["tiny", "small", "paper"],
    Parameter(help="Sizes and schedules: minutes on a CPU, hours on a GPU, or AstroCLIP's."),
]
PixelScale = Annotated[
    float, Parameter(help="Arcsec per pixel of JPEG and PNG; FITS files know theirs.")
]
_REJECTS = "Table (.csv or .parquet) of rows that could not be read, and why"
RejectsTable = Annotated[Path | None, Parameter(help=f"{_REJECTS}.")]
RejectsBeside = Annotated[
    Path | None, Parameter(help=f"{_REJECTS}; beside --out, as NAME.rejects.csv, if left out.")
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


def show(rows: Any, as_json: bool) -> None:
    """Rows or a summary, for people or for programs."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich import print as pretty

    pretty(rows)
