"""Pictures of where the towers' pooling looks, on images and on spectra.

Shapes: B galaxies, H heads, N patches; i and j are rows and columns of patches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..align.model import Model, SpectrumAttention
from ..figures import BLUE, DENSITY, INK, ORANGE, STYLE
from ..survey.survey import Survey
from ..units import PIXEL_SCALE
from .gallery import picture, trace


@rc_context(STYLE)
def attention_figure(model: Model, survey: Survey, device: str = "auto") -> Figure:
    """A row a galaxy: its image, where the pooling looks in it, and the same of its spectrum.

    Weights are the mean over heads, in units of what equal weights would be.

    Raises:
        ValueError: If a tower pools without attention.
    """
    maps: Any = model.attention(survey.images, device=device)
    looks: Any = model.attention(survey.spectra, device=device)
    figure = Figure(figsize=(9, 1.9 * len(survey)), layout="constrained")
    grid = figure.subplots(len(survey), 3, squeeze=False, width_ratios=(1, 1, 3))
    trunk = model.image.config.trunk
    side = trunk.size * PIXEL_SCALE / 2
    for row, (image, where, spectrum) in enumerate(grid):
        seen = picture(survey, row)
        half = seen.shape[0] * survey.images.pixel_scale[row] / 2
        frame = (-half, half, -half, half)
        image.imshow(seen, origin="lower", extent=frame)
        _map(where, maps[row].mean(0), side)
        where.contour(seen.mean(2), levels=[0.3, 0.6], extent=frame, colors="white", linewidths=0.8)
        for axes in (image, where):
            axes.set(xticks=[], yticks=[], xlim=(-side, side), ylim=(-side, side))
        _strip(spectrum, trace(survey, row), looks, row)
    for axes, title in zip(grid[0], ("image", "where the pooling looks", "spectrum"), strict=True):
        axes.set_title(title)
    grid[-1, 2].set_xlabel("wavelength / Å, observed; orange: weight / mean weight")
    return figure


def _map(axes: Axes, weights: Float[np.ndarray, "i j"], side: float) -> None:
    """The weights; row 0 of image and map is at the bottom."""
    relative, frame = weights / weights.mean(), (-side, side, -side, side)
    axes.imshow(relative, origin="lower", extent=frame, cmap=DENSITY, vmin=0)
    axes.set_xlabel(f"0 to {relative.max():.1f} × the mean", fontsize=7)


def _strip(
    axes: Axes, spectrum: Float[np.ndarray, "2 L"], looks: SpectrumAttention, row: int
) -> None:
    """The spectrum, and below it a step for each patch."""
    weights = looks.weights[row].mean(0)
    relative = weights / weights.mean()
    low, high = np.percentile(spectrum[1], [0.5, 99.7])
    axes.fill_between(looks.wavelength[row], 0, relative, step="mid", color=ORANGE, alpha=0.35)
    axes.set_ylim(0, 2 * relative.max())
    axes.tick_params(labelsize=7, colors=INK)
    beside: Any = axes.twinx()
    beside.plot(*spectrum, linewidth=0.5, color=BLUE)
    beside.set(ylim=(low - 0.9 * (high - low), high + 0.1 * (high - low)), yticks=[])


def spread_out(survey: Survey, n: int) -> Sequence[int]:
    """Rows of some galaxies from the brightest to the faintest, to show many kinds."""
    light = np.nan_to_num(survey.images.filled()).sum(axis=(1, 2, 3))
    order = np.argsort(-light)
    return order[np.linspace(0, len(order) - 1, n).round().astype(int)].tolist()
