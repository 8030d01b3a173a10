import numpy as np
import pytest

from appulse.evaluate.calibration import (
    BINS,
    coverage_curves,
    coverage_panels,
    local_test,
    pit_histograms,
    rank_histograms,
    score_bars,
)
from appulse.inference.calibration import Coverage, coverage, pit, sbc_ranks
from appulse.inference.local_c2st import LocalC2ST


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(800, 99, 2))


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(1).normal(size=(800, 2))


def heights(axes):
    return np.array([bar.get_height() for bar in axes.patches[1:]])  # the first is the band


def test_histograms_count_every_observation(samples, truth):
    ranks = rank_histograms(sbc_ranks(samples, truth), 99, ["a", "b"])
    for figure in (ranks, pit_histograms(pit(samples, truth), ["a", "b"])):
        assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
        for axes in figure.axes:
            assert len(heights(axes)) == BINS
            assert heights(axes).sum() == 800


def test_the_band_holds_calibrated_bins_and_not_others(samples, truth):
    def outside(values):
        figure = pit_histograms(values, ["a", "b"])
        band = figure.axes[0].patches[0]
        low, high = band.get_y(), band.get_y() + band.get_height()
        counts = np.concatenate([heights(axes) for axes in figure.axes])
        return np.mean((counts < low) | (counts > high))

    assert outside(pit(samples, truth)) < 0.1
    assert outside(pit(0.6 * samples, truth)) > 0.15


@pytest.mark.parametrize("draws", [24, 29])
def test_ranks_that_the_bins_do_not_divide_are_drawn_flat(samples, truth, draws):
    ranks = sbc_ranks(samples[:, :draws], truth)
    figure = rank_histograms(ranks, draws, ["a", "b"])
    band = figure.axes[0].patches[0]
    counts = np.concatenate([heights(axes) for axes in figure.axes])
    inside = (counts >= band.get_y()) & (counts <= band.get_y() + band.get_height())
    assert inside.mean() > 0.9


def test_coverage_is_drawn_as_it_is(samples, truth):
    curve = coverage(samples, truth)
    joint = Coverage(curve.level, curve.inside[:, 0])
    (axes,) = coverage_curves({"marginal": curve, "TARP": joint}, 800).axes
    lines = axes.lines[1:]  # after the diagonal
    assert len(lines) == 3
    assert np.array_equal(lines[1].get_ydata(), curve.inside[:, 1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["marginal", "TARP"]


def test_posteriors_are_drawn_side_by_side(samples, truth):
    curve = coverage(samples, truth)
    figure = coverage_panels({"one": {"a": curve}, "other": {"b": curve}}, 800)
    assert [axes.get_title() for axes in figure.axes] == ["one", "other"]


def test_scores_are_means():
    (axes,) = score_bars({"flow": np.array([1.0, 2.0]), "prior": np.array([4.0, 4.0])}).axes
    assert [bar.get_width() for bar in axes.patches] == [1.5, 4.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["flow", "prior"]


def test_the_local_test_shows_statistic_and_chance():
    (axes,) = local_test(LocalC2ST(0.3, tuple(np.linspace(0, 0.1, 99)))).axes
    assert axes.lines[0].get_xdata()[0] == 0.3
    assert axes.get_legend().get_texts()[-1].get_text() == "posterior, p = 0.01"
    assert heights(axes).sum() + axes.patches[0].get_height() == 99
