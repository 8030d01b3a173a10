import base64
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams

from appulse.figures import (
    INK,
    ORANGE,
    Cell,
    Panel,
    data_uri,
    gallery,
    learning_curves,
    predicted_against_true,
)

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture
def panels():
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 0.5, 500)
    return [
        Panel("redshift", true + 0.02 * rng.normal(size=500), true, "z"),
        Panel("b", true, true, "c"),
    ]


def test_a_figure_becomes_one_svg_without_outside_references(panels):
    uri = data_uri(predicted_against_true(panels))
    kind, data = uri.split(",")
    assert kind == "data:image/svg+xml;base64"
    svg = ElementTree.fromstring(base64.b64decode(data))
    assert svg.tag == SVG
    links = [v for e in svg.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_the_same_figure_has_the_same_bytes(panels):
    first, again = (data_uri(predicted_against_true(panels)) for _ in range(2))
    assert first == again


def test_predictions_are_shown_on_one_scale_with_the_truth(panels):
    figure = predicted_against_true(panels)
    assert [axes.get_title() for axes in figure.axes] == ["redshift", "b"]
    for axes in figure.axes:
        assert axes.get_xlim() == axes.get_ylim()
        counts = axes.collections[0].get_array()
        assert counts.sum() == 500  # nobody falls off the panel


def test_learning_curves_show_the_numbers_given():
    curves = {"loss": {"train": ([0, 1, 2], [3.0, 2.0, 1.0]), "validation": ([0, 2], [4.0, 2.0])}}
    (axes,) = learning_curves(curves).axes
    assert axes.get_title() == "loss"
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"train": [[0, 3], [1, 2], [2, 1]], "validation": [[0, 4], [2, 2]]}


def test_gallery_frames_the_partner_and_hides_empty_places():
    rng = np.random.default_rng(0)
    picture = Cell(rng.random((8, 8, 3)), "query")
    trace = Cell(np.stack([np.linspace(3600, 9800, 50), rng.random(50)]), "match", highlight=True)
    figure = gallery([[picture, trace, trace], [trace, picture]])
    assert len(figure.axes) == 6
    colours = [axes.title.get_color() for axes in figure.axes]
    assert colours[:5] == [INK, ORANGE, ORANGE, ORANGE, INK]
    assert not figure.axes[5].axison
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), picture.data)
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xydata().T, trace.data)


def test_matplotlibs_settings_stay_as_they_were(panels):
    before = rcParams["text.color"]
    data_uri(predicted_against_true(panels))
    assert rcParams["text.color"] == before
