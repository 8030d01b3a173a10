"""How cost grows with batch, sequence and model; what 1e8 galaxies would cost.

    python benchmarks/cost.py

Published sizes unless said otherwise, one thread, each point in a process of its own: CPU seconds
of a row (the second of two passes), peak resident memory. Exponents are slopes of log against log.
"""

import json
import sys
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from appulse.device import Precision, autocast
from bill import bill, draw
from process import apart, peak
from published_size import (
    flops,
    image_inputs,
    image_trunk,
    spectrum_inputs,
    spectrum_trunk,
)
from record import write_result
from speed import CPU, infer, seconds

BATCHES = (1, 3, 9)
PIXELS = (990, 1960, 3900, 7781)
WIDTHS = (192, 384, 768, 1024)


def point(tower: str, precision: Precision, rows: str, pixels: str, width: str) -> dict[str, float]:
    """One trunk on one batch; a width of 0 is the published one."""
    sizes = {} if width == "0" else {"width": int(width), "heads": int(width) // 64}
    trunk: Any = spectrum_trunk(**sizes) if tower == "spectrum" else image_trunk(**sizes)
    n = int(rows)
    inputs = spectrum_inputs(n, int(pixels)) if tower == "spectrum" else image_inputs(n)
    before = peak()
    run = partial(infer, trunk, inputs, precision)
    with autocast(CPU, precision):  # weights are rounded once
        tokens = run().shape[1]
        cpu, wall = seconds(run)
    parameters = sum(p.numel() for p in trunk.parameters())
    work = flops(trunk, tokens) / 1e9
    return {
        "rows": n,
        "tokens": tokens,
        "parameters": parameters,
        "GFLOP": work,
        "CPU s": cpu / n,
        "wall s": wall / n,
        "peak MB": peak(),
        "peak MB before": before,
    }


def curves() -> dict[str, list[dict[str, float]]]:
    """Cost against one size, the others as published."""
    made = {
        f"batch, {tower}, {precision}": [apart(tower, precision, rows, 7781, 0) for rows in BATCHES]
        for tower in ("spectrum", "image")
        for precision in ("float32", "bfloat16")
    }
    made["tokens of a spectrum"] = [
        apart("spectrum", "bfloat16", 2, pixels, 0) for pixels in PIXELS
    ]
    made["width of the image encoder"] = [
        apart("image", "bfloat16", 4, 7781, width) for width in WIDTHS
    ]
    return made


def exponent(rows: list[dict[str, float]], x: str, y: str) -> float:
    """Slope of log y against log x."""
    logs = np.log([[row[x], row[y]] for row in rows])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def exponents(curve: dict[str, Any]) -> dict[str, float]:
    return {
        "CPU s of a spectrum, tokens": exponent(curve["tokens of a spectrum"], "tokens", "CPU s"),
        "CPU s of an image, parameters": exponent(
            curve["width of the image encoder"], "parameters", "CPU s"
        ),
        **{
            f"CPU s of a row, {name}": exponent(rows, "rows", "CPU s")
            for name, rows in curve.items()
            if name.startswith("batch")
        },
    }


def main() -> None:
    curve = curves()
    result = {"curves": curve, "exponents": exponents(curve), "bill": bill(curve)}
    print(json.dumps({name: result[name] for name in ("exponents", "bill")}, indent=1))
    print(write_result("cost", result), draw(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 1:
        main()
    else:
        tower, precision, *sizes = sys.argv[1:]
        print(json.dumps(point(tower, cast(Precision, precision), *sizes)))
