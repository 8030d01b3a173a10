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
    """A row a galaxy: its image, where the pooling looks in it, and its spectrum with the same.

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
    for row, (image, overlay, spectrum) in enumerate(grid):
        seen = picture(survey, row)
        half = seen.shape[0] * survey.images.pixel_scale[row] / 2
        for axes in (image, overlay):
            axes.imshow(seen, origin="lower", extent=(-half, half, -half, half))
            axes.set(xticks=[], yticks=[], xlim=(-side, side), ylim=(-side, side))
        _overlay(overlay, maps[row].mean(0), side)
        _strip(spectrum, trace(survey, row), looks, row)
    for axes, title in zip(grid[0], ("image", "where it looks", "spectrum"), strict=True):
        axes.set_title(title)
    grid[-1, 2].set_xlabel("wavelength / Å, observed; orange: weight / mean weight")
    return figure


def _overlay(axes: Axes, weights: Float[np.ndarray, "i j"], side: float) -> None:
    """The map over the picture; row 0 of both is at the bottom."""
    relative = weights / weights.mean()
    axes.imshow(
        relative,
        origin="lower",
        extent=(-side, side, -side, side),
        cmap=DENSITY,
        alpha=0.55,
        vmin=0,
    )
    axes.set_xlabel(f"up to {relative.max():.1f} × the mean", fontsize=7)


def _strip(
    axes: Axes, spectrum: Float[np.ndarray, "2 L"], looks: SpectrumAttention, row: int
) -> None:
    """The spectrum, and under it a step for each patch."""
    weights = looks.weights[row].mean(0)
    relative = weights / weights.mean()
    low, high = np.percentile(spectrum[1], [0.5, 99.7])
    axes.plot(*spectrum, linewidth=0.5, color=BLUE)
    axes.set(ylim=(low - 0.1 * (high - low), high + 0.3 * (high - low)), yticks=[])
    beside: Any = axes.twinx()
    beside.fill_between(looks.wavelength[row], 0, relative, step="mid", color=ORANGE, alpha=0.35)
    beside.set_ylim(0, 1.6 * relative.max())
    beside.tick_params(labelsize=7, colors=INK)


def spread_out(survey: Survey, n: int) -> Sequence[int]:
    """Rows of some galaxies from the brightest to the faintest, to show many kinds."""
    light = np.nan_to_num(survey.images.filled()).sum(axis=(1, 2, 3))
    order = np.argsort(-light)
    return order[np.linspace(0, len(order) - 1, n).round().astype(int)].tolist()
