from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from appulse.evaluate.protocol import Predictions
from appulse.evaluate.published import SOURCE
from appulse.evaluate.report import (
    SIMULATIONS_ONLY,
    Plot,
    property_panels,
    write_report,
)
from appulse.evaluate.results import Result
from appulse.evaluate.tables import Column, Table, best, goodness, label_table, table
from appulse.figures import learning_curves

HOSTILE = "<script>alert('x')</script>\" onload=\"alert(1)&amp;"


def result(method, value, metric="top-10", modality="image → spectrum", target="partner", **kw):
    given = {"n_train": 300, "n_test": 3000, "baseline": False} | kw
    return Result(method, modality, target, metric, value, value - 0.01, value + 0.01, **given)


class Page(HTMLParser):
    """The tags and the text of a page, as a browser would see them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(tmp_path):
    plot = Plot(HOSTILE, learning_curves({HOSTILE: {"a": ([0, 1], [1.0, 2.0])}}), HOSTILE)
    results = [
        result(HOSTILE, 0.91),
        result("photometry", 0.76, baseline=True, n_train=1234),
        result("a", 0.1234, "NMAD", "image", "redshift"),
    ]
    write_report(
        tmp_path / "report.html",
        results,
        [plot],
        {HOSTILE: HOSTILE},
        summary=HOSTILE,
        note=SIMULATIONS_ONLY,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_hostile_strings_stay_text(page):
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert page.text.count(HOSTILE) >= 5


def test_the_page_needs_no_other_file(page):
    addresses = [v for name, v in page.attributes if name in ("src", "href", "action")]
    assert len(addresses) == 1
    assert addresses[0].startswith("data:image/svg+xml;base64,")
    style = "".join(page.text)
    assert "@import" not in style
    assert "url(" not in style
    assert "link" not in page.tags


def test_nothing_is_said_of_simulations_unless_it_is_so(tmp_path):
    write_report(tmp_path / "report.html", [], [], {})
    assert "simulated" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_says_what_matters(page):
    assert SIMULATIONS_ONLY in page.text
    assert "0.910" in page.text
    assert "baseline 0.760: photometry" in page.text
    assert "0.12340" in page.text
    assert "1,234" in page.text
    assert "true spectrum is the nearest" not in page.text  # no such result, no card


def cells(element):
    """Text of each row's cells, with what is bold."""
    rows = [["".join(cell.itertext()) for cell in row] for row in element.iter("tr")]
    return rows, ["".join(b.itertext()) for b in element.iter("b")]


def test_table_puts_ours_first_and_marks_the_best():
    columns = [Column("image → spectrum", "partner", m, m) for m in ("top-10", "median rank")]
    spec = Table("t", columns)
    results = [
        result("boosting", 0.7, baseline=True),
        result("boosting", 3.0, "median rank", baseline=True),
        result("mine", 0.9),
        result("mine", 5.0, "median rank"),
        result("other", 0.8),
        result("elsewhere", 0.99, modality="image"),
    ]
    rows, bold = cells(table(spec, results))
    assert rows[0] == ["method", "top-10", "median rank", "trained on"]
    assert [row[0] for row in rows[1:]] == ["mine", "other", "boosting baseline"]
    assert bold == ["0.900", "3.0"]
    assert rows[2] == ["other", "0.8000.790 … 0.810", "–", "300"]


def test_tables_name_the_columns_of_their_labels():
    columns = [Column("image", "age", "R²", "age"), Column("image", "log_mstar", "R²", "M")]
    results = [
        result("m", 0.5, "R²", "image", "age", column="age_catalogue"),
        result("m", 0.5, "R²", "image", "log_mstar", column="log_mstar_true"),
    ]
    shown = table(Table("t", columns, "More."), results)
    assert shown[-1].text == "More. Scored on age_catalogue, log_mstar_true."
    assert cells(shown)[0][0] == ["method", "age", "M", "trained on"]


def test_published_numbers_come_last_and_compete_with_none():
    """AstroCLIP's .79 is better than ours here, and not bold."""
    spec = Table("t", [Column("image", "redshift", "R²", "z")])
    rows, bold = cells(table(spec, [result("mine", 0.5, "R²", "image", "redshift")]))
    assert bold == ["0.500"]
    assert rows[2] == [SOURCE]
    assert rows[3] == ["AstroCLIP", "0.79", ""]
    assert len(rows) == 3 + 5  # Zoobot has no redshifts


def test_of_several_numbers_of_labels_the_most_count_and_all_are_told():
    key = {"metric": "mean R²", "modality": "image", "target": "properties"}
    results = [result("mine", 0.1 * i, n_train=n, **key) for i, n in ((1, 100), (3, 900))]
    results += [result("other", 0.2, n_train=900, **key)]
    spec = Table("t", [Column("image", "properties", "mean R²", "mean")])
    rows, _ = cells(table(spec, results))
    assert rows[1] == ["mine", "0.3000.290 … 0.310", "900"]
    rows, bold = cells(label_table("image", results))
    assert rows[0] == ["method", "100 labels", "900 labels"]
    assert [row[0] for row in rows] == ["method", "mine"]
    assert bold == ["0.100", "0.300"]
    assert label_table("spectrum", results) is None


def test_cards_say_how_far_ahead_on_the_same_galaxies(tmp_path):
    ahead = result("mine", 0.03, "top-10, difference", rival="photometry")
    write_report(tmp_path / "r.html", [result("mine", 0.9), ahead], [], {})
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "difference 0.030 (0.020 … 0.040), paired" in text


def test_no_results_no_table():
    spec = Table("t", [Column("image", "age", "R²", "age")])
    assert table(spec, [result("m", 0.5)]) is None


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("R²", 0.9, 0.8), ("NMAD", 0.01, 0.02), ("median rank", 1.0, 2.0), ("bias", -0.01, 0.02)],
)
def test_goodness(metric, better, worse):
    assert goodness(result("a", better, metric)) > goodness(result("b", worse, metric))


def test_panels_leave_unknown_truth_out():
    truth = {"redshift": np.array([0.1, 0.2, np.nan, 0.4]), "age": np.arange(4.0)}
    predictions = Predictions("m", "image", {"redshift": np.array([0.1, 0.2, 9.0, 0.4])}, 10)
    (panel,) = property_panels(predictions, truth)
    assert panel.title == "R² 1.00"
    assert panel.predicted.tolist() == panel.true.tolist() == [0.1, 0.2, 0.4]


def test_a_failed_write_leaves_the_old_report(tmp_path):
    (tmp_path / "report.html").write_text("old")

    class Broken(Figure):
        def savefig(self, *args, **kwargs):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_report(tmp_path / "report.html", [], [Plot("a", Broken())], {})
    assert (tmp_path / "report.html").read_text() == "old"


def test_ours_in_headlines_is_not_chosen_by_its_score():
    key = {"metric": "R²", "modality": "image", "target": "redshift"}
    ours = [
        result(f"appulse, {name}", v, **key) for name, v in (("ridge", 0.9), ("MLP probe", 0.8))
    ]
    rivals = [result(f"rival {v}", v, baseline=True, **key) for v in (0.6, 0.7)]
    asked = ("image", "redshift", "R²")
    assert [r.method for r in best([*ours, *rivals], *asked)] == ["appulse, MLP probe", "rival 0.7"]
    assert best([*ours[:1], *rivals], *asked)[0].method == "appulse, ridge"
    others = [result(name, v, **key) for name, v in (("a", 0.1), ("b", 0.2))]
    assert best(others, *asked) == (others[0], None)
