import numpy as np
import pytest

from appulse.evaluate.attention import attention_figure, spread_out
from appulse.evaluate.comparison import LEARNERS
from appulse.evaluate.pictures import (
    binned_scores,
    confusion,
    galleries,
    label_curves,
    learning,
    pictures,
    space,
)
from appulse.evaluate.protocol import Predictions, fit_predict
from appulse.evaluate.results import Result
from appulse.evaluate.scores import grouped
from appulse.metrics import Bin, Estimate
from appulse.tasks.probes import KNNProbe


def test_a_confusion_matrix_holds_shares_of_true_classes():
    true = np.array(["a", "a", "a", "b", "", "b"])
    said = np.array(["a", "b", "a", "b", "a", "a"])
    plot = confusion(Predictions("m", "image", {"morphology": said}, 1), {"morphology": true})
    axes = plot.figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.67", "0.33", "0.50", "0.50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (3)", "b (2)"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3], [0.5, 0.5]])


def test_bins_are_drawn_where_they_are():
    bins = [Bin(0.0, 0.2, 30, Estimate(0.5, 0.4, 0.7)), Bin(0.2, 0.6, 30, Estimate(0.3, 0.2, 0.4))]
    figure = binned_scores({"NMAD, from image": {"true z": {"ours": bins}}})
    (line,) = [c.lines[0] for c in figure.axes[0].containers]
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 0.5], [0.4, 0.3]])
    low, high = figure.axes[0].containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == (pytest.approx(0.4), pytest.approx(0.7))


def test_curves_by_number_of_labels():
    line = [
        Result("m", "image", "properties", "mean R²", v, v - 0.1, v + 0.1, n, 9, False)
        for n, v in ((100, 0.2), (900, 0.4))
    ]
    axes = label_curves({"image": {"m": line}}).axes[0]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [[100, 0.2], [900, 0.4]])
    assert axes.get_xscale() == "log"


def test_no_two_methods_look_alike():
    names = [f"{what}, {how}" for what in ("a", "b, c") for how in LEARNERS]
    line = [
        Result("m", "image", "properties", "mean R²", 0.2, 0.1, 0.3, n, 9, False) for n in (9, 99)
    ]
    figure = label_curves({"image": dict.fromkeys([*names, "ResNet"], line)})
    looks = [(h.get_color(), h.get_linestyle()) for h in figure.legends[0].legend_handles]
    assert len(set(looks)) == len(looks) == 2 * len(LEARNERS) + 1


def test_galleries_go_in_four_directions(study):
    titles = [plot.title.removeprefix("Nearest neighbours, ") for plot in galleries(study)]
    assert titles == [
        "image → spectrum",
        "spectrum → image",
        "image → image",
        "spectrum → spectrum",
    ]


def test_the_map_shows_every_galaxy_twice_and_keeps_pairs_together(study):
    """Vectors of image and spectrum differ by little noise here."""
    image, *coloured = space(study).figure.axes[:4]
    one, other = (np.asarray(points.get_offsets()) for points in image.collections)
    assert one.shape == other.shape == (len(study.sample.rows("test")), 2)
    between = np.linalg.norm(one[:, None] - other[None], axis=2)
    assert np.mean(between.argmin(axis=1) == np.arange(len(one))) > 0.5
    for axes in coloured:
        assert len(axes.collections[0].get_offsets()) == 2 * len(one)


def test_pictures_are_of_what_there_is(study):
    """One probe of images: no pictures of spectra, of labels, or of rivals that were not asked."""
    vectors, labels = study.vectors("image"), study.labels
    probe = fit_predict("appulse, MLP probe", "image", KNNProbe, vectors, labels)
    titles = [plot.title for plot in pictures(study, grouped([probe]), [])]
    assert titles[:3] == [
        "Predicted against true, from image embeddings",
        "Morphology, appulse, MLP probe, image: who is taken for whom",
        "Redshifts by magnitude and by redshift",
    ]
    assert len(titles) == 3 + 4 + 1


def test_learning_curves_are_those_of_the_runs(run):
    (plot,) = learning({"spectra": run.spectrum, "both": run.align})
    first, second = plot.figure.axes
    assert (first.get_title(), second.get_title()) == ("spectra", "both")
    for axes, steps in ((first, 20), (second, 80)):
        training, validation = axes.get_lines()
        assert training.get_label() == "training loss"
        assert training.get_xdata()[-1] == validation.get_xdata()[-1] == steps
    assert learning({}) == []


def test_attention_is_drawn_over_image_and_spectrum(model, galaxies):
    two = galaxies[:2]
    figure = attention_figure(model, two, "cpu")
    maps, looks = (model.attention(x, device="cpu") for x in (two.images, two.spectra))
    plain, where, strip = figure.axes[3:6]  # of the second galaxy
    assert (len(plain.images), len(where.images)) == (1, 1)
    weights = maps[1].mean(0)
    np.testing.assert_allclose(where.images[0].get_array(), weights / weights.mean(), rtol=1e-5)
    assert f"{(weights / weights.mean()).max():.1f}" in where.get_xlabel()
    assert len(figure.axes[7].lines) == 1
    steps = strip.collections[0].get_paths()[0].vertices
    weights = looks.weights[1].mean(0)
    assert steps[:, 1].max() == pytest.approx((weights / weights.mean()).max(), rel=1e-4)


def test_galaxies_of_many_brightnesses_are_chosen(galaxies):
    rows = spread_out(galaxies, 3)
    light = galaxies.images.filled().sum(axis=(1, 2, 3))
    assert light[rows[0]] == light.max()
    assert light[rows[2]] == light.min()
