"""Figures that show results; each function returns a matplotlib figure and keeps no state.

Colours and text are chosen to be read on white and on black, so backgrounds stay transparent.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#3f87d6", "#e0812b", "#36a07a", "#a06bc9"
INK = "#808894"
DENSITY = ListedColormap(colormaps["viridis"](np.linspace(0.2, 0.95, 64)))
STYLE: dict[Any, Any] = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PURPLE]})",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "appulse",
}


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel of predictions against truth."""

    title: str
    predicted: Float[np.ndarray, "B"]
    true: Float[np.ndarray, "B"]
    label: str


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a gallery: colours (y, x, 3) in [0, 1], or wavelength and flux (2, L)."""

    data: Float[np.ndarray, "y x 3"] | Float[np.ndarray, "2 L"]
    caption: str
    highlight: bool = False


@rc_context(STYLE)
def predicted_against_true(panels: Sequence[Panel]) -> Figure:
    """Predictions against truth, one panel each, shaded by the logarithm of the counts."""
    figure = Figure(figsize=(2.15 * len(panels), 2.5), layout="constrained")
    for axes, panel in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        low, high = np.percentile(panel.true, [0.2, 99.8])
        extent = (low, high, low, high)
        axes.hexbin(
            np.clip(panel.true, low, high),
            np.clip(panel.predicted, low, high),
            gridsize=45,
            bins="log",
            mincnt=1,
            cmap=DENSITY,
            extent=extent,
            linewidths=0.1,
            rasterized=True,
        )
        axes.plot([low, high], [low, high], color=ORANGE, linewidth=1)
        axes.set(title=panel.title, xlabel=f"true {panel.label}", aspect="equal")
        axes.set(xlim=(low, high), ylim=(low, high))
    figure.axes[0].set_ylabel("predicted")
    return figure


@rc_context(STYLE)
def learning_curves(
    curves: Mapping[str, Mapping[str, tuple[Sequence, Sequence]]],
    xlabel: str = "step",
) -> Figure:
    """Curves of training: panel title → line name → (x, y)."""
    figure = Figure(figsize=(3.4 * len(curves), 2.6), layout="constrained")
    for axes, (title, lines) in zip(
        np.ravel(figure.subplots(1, len(curves))), curves.items(), strict=True
    ):
        for name, (x, y) in lines.items():
            axes.plot(x, y, label=name, linewidth=1.4)
        axes.set(title=title, xlabel=xlabel)
        axes.grid(alpha=0.2)
        axes.legend()
    return figure


@rc_context(STYLE)
def gallery(rows: Sequence[Sequence[Cell]]) -> Figure:
    """A table of images and spectra: a query first in each row, then its neighbours."""
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(1.75 * columns, 1.75 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, row in zip(grid, rows, strict=True):
        for axes, cell in zip(line, row, strict=False):
            _draw(axes, cell)
    return figure


def _draw(axes: Axes, cell: Cell) -> None:
    if cell.data.ndim == 3:
        axes.imshow(cell.data, origin="lower", interpolation="none")
    else:
        wavelength, flux = cell.data
        axes.plot(wavelength, flux, linewidth=0.6, color=BLUE)
        low, high = np.percentile(flux, [0.5, 99.7])
        margin = 0.08 * (high - low) + 1e-6
        axes.set(ylim=(low - margin, high + 2 * margin), box_aspect=1)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.set_title(cell.caption, fontsize=7, color=ORANGE if cell.highlight else INK)
    for spine in axes.spines.values():
        spine.set(visible=True, color=ORANGE if cell.highlight else INK)
        spine.set_linewidth(2 if cell.highlight else 0.5)


def data_uri(figure: Figure) -> str:
    """The figure as an SVG inside a `data:` address, for a page that needs no other file."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True, dpi=200)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
