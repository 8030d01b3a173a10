import numpy as np
import pytest

from appulse.evaluate.corner import corner


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    wide = rng.multivariate_normal([1.0, -2.0], [[1.0, 0.6], [0.6, 1.0]], 4000)
    return {"wide": wide, "narrow": [1.5, -2.0] + 0.01 * rng.normal(size=(4000, 2))}


def test_contours_hold_their_share_of_the_samples(samples):
    figure = corner(samples, ["a", "b"], np.array([1.5, -2.0]))
    axes = figure.axes[2]  # b against a
    shares = []
    for lines, drawn in zip(axes.collections, samples.values(), strict=True):
        # of the 95 % contour, then of the 68 % one
        shares += [path.contains_points(drawn).mean() for path in lines.get_paths()]
    assert shares == pytest.approx([0.95, 0.68] * 2, abs=0.06)


def test_contours_are_of_what_lies_within_reach():
    """A tenth of the samples far out neither widens them nor counts, as the captions say."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(6000, 2)) * np.where(np.arange(6000) % 10, 1.0, 300.0)[:, None]
    near = np.abs(drawn).max(axis=1) < 5
    lines = corner({"heavy": drawn}, ["a", "b"]).axes[2].collections[0]
    shares = [path.contains_points(drawn[near]).mean() for path in lines.get_paths()]
    assert shares == pytest.approx([0.95, 0.68], abs=0.06)
    assert max(np.abs(path.vertices).max() for path in lines.get_paths()) < 5


def test_narrow_posteriors_are_drawn_narrow(samples):
    wide, narrow = (line.get_xydata() for line in corner(samples, ["a", "b"]).axes[0].lines)
    for curve, sd in ((wide, 1.0), (narrow, 0.01)):
        assert curve[:, 1].max() == 1
        x, density = curve.T
        mean = np.average(x, weights=density)
        assert np.average((x - mean) ** 2, weights=density) ** 0.5 == pytest.approx(sd, rel=0.15)


def test_axes_are_named_once(samples):
    figure = corner(samples, ["a", "b"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "a", "b"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["", "", "b", ""]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wide", "narrow"]
