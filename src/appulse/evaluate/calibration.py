"""Figures of calibration: one for each check in `inference.calibration`.

Shapes: B observations, S samples, D parameters.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from ..figures import BLUE, DENSITY, INK, ORANGE, STYLE
from ..inference.calibration import Coverage
from ..inference.local_c2st import LocalC2ST

BINS = 20


@rc_context(STYLE)
def rank_histograms(ranks: Int[np.ndarray, "B D"], samples: int, names: Sequence[str]) -> Figure:
    """SBC ranks of each parameter, with the band that holds 99 % of calibrated bins.

    Ranks are spread at random, as `pit` does: bins hold equal numbers of them only by chance.
    """
    spread = np.random.default_rng(0).random(ranks.shape)
    return _histograms((ranks + spread) / (samples + 1), names, "rank of the truth / samples")


@rc_context(STYLE)
def pit_histograms(pit: Float[np.ndarray, "B D"], names: Sequence[str]) -> Figure:
    """PIT of each parameter, with the band that holds 99 % of calibrated bins."""
    return _histograms(pit, names, "PIT")


def coverage_curves(curves: Mapping[str, Coverage], observations: int) -> Figure:
    """Coverage or TARP against the level, with the band that holds 95 % of calibrated points."""
    return coverage_panels({"": curves}, observations)


@rc_context(STYLE)
def coverage_panels(panels: Mapping[str, Mapping[str, Coverage]], observations: int) -> Figure:
    """`coverage_curves` of several posteriors, side by side."""
    figure = Figure(figsize=(2.9 * len(panels) + 0.3, 3.0), layout="constrained")
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True))
    for place, (title, curves) in zip(axes, panels.items(), strict=True):
        _coverage(place, curves, observations)
        place.set_title(title)
    axes[0].set_ylabel("truths inside")
    axes[-1].legend()
    return figure


def _coverage(axes: Axes, curves: Mapping[str, Coverage], observations: int) -> None:
    level = np.linspace(0, 1, 101)
    low, high = (binom.ppf(q, observations, level) / observations for q in (0.025, 0.975))
    axes.fill_between(level, low, high, color=INK, alpha=0.25, linewidth=0)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    axes.set_prop_cycle(color=DENSITY(np.linspace(0, 1, len(curves))))
    for name, curve in curves.items():
        for column in np.reshape(curve.inside, (len(curve.level), -1)).T:
            axes.plot(curve.level, column, linewidth=1.3, label=name)
            name = "_"  # one entry in the legend
    axes.set(xlabel="credible level", aspect="equal", xlim=(0, 1), ylim=(0, 1))


@rc_context(STYLE)
def score_bars(scores: Mapping[str, Float[np.ndarray, "B"]], label: str = "CRPS") -> Figure:
    """Mean score of each method with its standard error; less is better."""
    figure = Figure(figsize=(3.4, 0.5 + 0.35 * len(scores)), layout="constrained")
    axes = figure.subplots()
    means = [score.mean() for score in scores.values()]
    errors = [score.std() / np.sqrt(len(score)) for score in scores.values()]
    axes.barh(list(scores), means, xerr=errors, color=BLUE, ecolor=INK, height=0.6)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return figure


@rc_context(STYLE)
def local_test(test: LocalC2ST) -> Figure:
    """The local C2ST statistic among its values where there is nothing to find."""
    figure = Figure(figsize=(3.2, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(test.null, bins=BINS, color=BLUE, alpha=0.7, label="calibrated")
    axes.axvline(test.statistic, color=ORANGE, label=f"posterior, p = {test.chance:.2g}")
    axes.set(xlabel="local C2ST", ylabel="permutations")
    axes.legend()
    return figure


def _histograms(values: Float[np.ndarray, "B D"], names: Sequence[str], label: str) -> Figure:
    figure = Figure(figsize=(2.2 * len(names), 2.1), layout="constrained")
    panels = np.ravel(figure.subplots(1, len(names), sharey=True))
    for axes, column, name in zip(panels, values.T, names, strict=True):
        _histogram(axes, column)
        axes.set(title=name, xlabel=label)
    figure.axes[0].set_ylabel("observations")
    return figure


def _histogram(axes: Axes, values: Float[np.ndarray, "B"]) -> None:
    low, high = binom.ppf([0.005, 0.995], len(values), 1 / BINS)
    axes.axhspan(low, high, color=INK, alpha=0.25, linewidth=0)
    axes.hist(values, bins=BINS, range=(0, 1), color=BLUE, alpha=0.8)
