"""What embedding 1e8 galaxies would cost, extrapolated; figures of `cost.py`."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from record import RESULTS

GALAXIES = 1e8
TOWERS = ("image", "spectrum")


def bill(curve: dict[str, Any]) -> dict[str, Any]:
    """Days for an image and a spectrum of each galaxy. EXTRAPOLATED: nothing of it was run."""
    best = {
        precision: sum(
            min(row["CPU s"] for row in curve[f"batch, {tower}, {precision}"]) for tower in TOWERS
        )
        for precision in ("float32", "bfloat16")
    }
    work = sum(curve[f"batch, {tower}, bfloat16"][0]["GFLOP"] for tower in TOWERS)
    gpu = json.loads((RESULTS / "gpu.json").read_text())["results"]
    rates = [gpu[tower]["inference, bfloat16"]["rows / s"] for tower in TOWERS]
    return {
        "note": "extrapolated: cores from the seconds of one row, the GPU from its rows a second",
        "GFLOP of a galaxy": work,
        **{
            f"days on 2 cores, {precision}": GALAXIES * cpu / 2 / 86400
            for precision, cpu in best.items()
        },
        f"hours on one {gpu['GPU']}, networks alone": sum(GALAXIES / x for x in rates) / 3600,
        "GB of float32 embeddings": GALAXIES * 2 * 1024 * 4 / 1e9,
    }


def short(size: float) -> str:
    """Millions as such."""
    return f"{size / 1e6:.0f}M" if size >= 1e6 else f"{size:g}"


def draw(result: dict[str, Any]) -> Path:
    """Embeddings per CPU second and memory against batch, tokens and parameters."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    curve = result["curves"]
    panels = [
        (
            {n: rows for n, rows in curve.items() if n.startswith("batch")},
            "rows",
            "rows of a batch",
        ),
        ({"spectrum": curve["tokens of a spectrum"]}, "tokens", "tokens of a spectrum"),
        ({"image": curve["width of the image encoder"]}, "parameters", "parameters"),
    ]
    for (rate, memory), (lines, x, label) in zip(axes.T, panels, strict=True):
        for name, rows in lines.items():
            sizes = [row[x] for row in rows]
            line = name.removeprefix("batch, ")
            rate.loglog(sizes, [1 / row["CPU s"] for row in rows], "o-", label=line)
            memory.semilogx(sizes, [row["peak MB"] / 1000 for row in rows], "o-", label=line)
        for panel in (rate, memory):
            panel.set_xticks(sizes, [short(size) for size in sizes])
            panel.xaxis.set_minor_locator(NullLocator())
        rate.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        rate.yaxis.set_minor_locator(NullLocator())
        rate.yaxis.set_major_formatter("{x:g}")
        rate.set_ylim(0.5, 50)
        memory.set(xlabel=label, ylim=(0, 2.5))
        rate.legend(fontsize=8)
    axes[0, 0].set_ylabel("embeddings per CPU second")
    axes[1, 0].set_ylabel("peak memory [GB]")
    path = RESULTS / "cost.png"
    figure.savefig(path, dpi=110)
    return path
