"""Corner plots: every parameter, and every pair of them, of one or several posteriors.

Shapes: S samples, P parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter

from ..figures import BLUE, GREEN, INK, ORANGE, STYLE

COLOURS = (BLUE, ORANGE, GREEN)
LEVELS = (0.95, 0.68)  # of the contours
CELLS, SMOOTHING = 40, 1.5  # of the histograms, the second in cells
REACH = 3.5  # of an axis, in standard deviations to each side


@rc_context(STYLE)
def corner(
    samples: Mapping[str, Float[np.ndarray, "S P"]],
    names: Sequence[str],
    truth: Float[np.ndarray, "P"] | None = None,
) -> Figure:
    """Marginal densities, each scaled to its peak, and contours that hold 68 and 95 %.

    Of what lies within 3.5 standard deviations, by quantiles: the few samples beyond, of redshifts
    say, would blur the others on any grid that shows them, so contours hold that much less of all.

    Args:
        samples: Of up to three posteriors, by name.
        names: Of the parameters.
        truth: Marked by lines.
    """
    size = len(names)
    figure = Figure(figsize=(1.5 * size, 1.5 * size), layout="constrained")
    grid = figure.subplots(size, size, squeeze=False)
    views = [_view([drawn[:, k] for drawn in samples.values()]) for k in range(size)]
    for i, j in np.ndindex(size, size):
        axes: Any = grid[i, j]
        if j > i:
            axes.set_axis_off()
            continue
        for drawn, colour in zip(samples.values(), COLOURS, strict=False):
            if i == j:
                _marginal(axes, drawn[:, i], colour)
            else:
                _contours(axes, drawn[:, j], drawn[:, i], colour)
        if truth is not None:
            axes.axvline(truth[j], color=INK, linewidth=0.8)
            if i > j:
                axes.axhline(truth[i], color=INK, linewidth=0.8)
        _frame(axes, (i, j), names, views)
    lines = [Line2D([], [], color=colour) for colour in COLOURS[: len(samples)]]
    figure.legend(lines, list(samples), loc="upper right")
    return figure


def _view(columns: Sequence[Float[np.ndarray, "S"]]) -> tuple[float, float]:
    """Range of an axis that shows all posteriors, whatever lies far out of each."""
    low, middle, high = np.quantile(columns, [0.16, 0.5, 0.84], axis=1)
    ends = middle - REACH * (middle - low), middle + REACH * (high - middle)
    return float(ends[0].min()), float(ends[1].max())


def _frame(
    axes: Axes, place: tuple[int, int], names: Sequence[str], views: Sequence[tuple[float, float]]
) -> None:
    i, j = place
    axes.set_xlim(views[j])
    axes.set_ylim(views[i] if i > j else (0, 1.1))
    axes.tick_params(labelsize=6, labelbottom=i == len(names) - 1, labelleft=i > j == 0)
    axes.locator_params(nbins=3)
    if i == j:
        axes.set_yticks([])
    if i == len(names) - 1:
        axes.set_xlabel(names[j], fontsize=8)
    if i > j == 0:
        axes.set_ylabel(names[i], fontsize=8)


def _marginal(axes: Axes, x: Float[np.ndarray, "S"], colour: str) -> None:
    """On a grid of its own range, so that narrow posteriors stay narrow beside wide ones."""
    low, high = _view([x])
    count, edges = np.histogram(x, CELLS, (low, high))
    density = gaussian_filter(count.astype(float), SMOOTHING)
    axes.plot((edges[1:] + edges[:-1]) / 2, density / density.max(), color=colour, linewidth=1.2)


def _contours(
    axes: Axes, x: Float[np.ndarray, "S"], y: Float[np.ndarray, "S"], colour: str
) -> None:
    count, x_edges, y_edges = np.histogram2d(x, y, CELLS, (_view([x]), _view([y])))
    density = gaussian_filter(count, SMOOTHING)
    centres = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    heights = np.sort(density.ravel())[::-1]
    share = np.cumsum(heights) / heights.sum()
    levels = [float(heights[np.searchsorted(share, level)]) for level in LEVELS]
    axes.contour(*centres, density.T, levels, colors=colour, linewidths=(0.7, 1.2))
