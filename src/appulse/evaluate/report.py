"""The report: one HTML file that needs no other, made of results, figures and provenance.

Strings may come from the headers of files; `markup` escapes them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from matplotlib.figure import Figure

from ..figures import Panel, data_uri
from ..files import atomic_path
from ..metrics import r2
from .markup import document, tag
from .protocol import Predictions
from .results import Columns, Result, known
from .tables import TABLES, headlines, label_table, table

SIMULATIONS_ONLY = (
    "This model was trained on simulated galaxies only. The scores below hold for galaxies like "
    "the simulated ones; on real images and spectra expect less, and check before use."
)
LABELS = {
    "redshift": "z",
    "log_mstar": "log M★ / M☉",
    "age": "age / Gyr",
    "log_zsol": "log Z / Z☉",
    "log_ssfr": "log sSFR / yr⁻¹",
}


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure with its heading and a sentence that says how to read it."""

    title: str
    figure: Figure
    caption: str = ""


def write_report(
    path: str | Path,
    results: Sequence[Result],
    plots: Sequence[Plot],
    about: Mapping[str, str],
    *,
    title: str = "appulse: evaluation",
    summary: str = "",
    note: str = "",
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: Name of the HTML file.
        results: From `scores.score_all`.
        plots: In the order to show them.
        about: Protocol and provenance by name; see `provenance.provenance`.
        title: Heading of the page.
        summary: What was run, in a sentence or two.
        note: What a reader must know before trusting the numbers, e.g. `SIMULATIONS_ONLY`.
    """
    page = tag("html", _head(title), _body(results, plots, about, title, summary, note), lang="en")
    with atomic_path(path) as temporary:
        temporary.write_bytes(document(page))


def property_panels(predictions: Predictions, truth: Columns) -> list[Panel]:
    """Panels for `figures.predicted_against_true`, one per property, titled with its R²."""
    panels = []
    for name in (n for n in LABELS if n in predictions.values):
        rows = known(truth[name])
        predicted, true = predictions.values[name][rows], truth[name][rows]
        panels.append(Panel(f"R² {r2(predicted, true):.2f}", predicted, true, LABELS[name]))
    return panels


def save_plots(folder: Path, plots: Sequence[Plot]) -> None:
    """Writes each plot as PNG and PDF named by its title, on white."""
    for plot in plots:
        name = "-".join("".join(c if c.isalnum() else " " for c in plot.title).split()).lower()
        for kind in ("png", "pdf"):
            with atomic_path(folder / f"{name}.{kind}") as temporary:
                plot.figure.savefig(temporary, dpi=150, facecolor="white")
            plot.figure.set_layout_engine("none")  # what is laid out once stays so


def _body(
    results: Sequence[Result],
    plots: Sequence[Plot],
    about: Mapping[str, str],
    title: str,
    summary: str,
    note: str,
) -> Element:
    found = [table(spec, results) for spec in TABLES]
    found += [label_table(modality, results) for modality in ("image", "spectrum")]
    return tag(
        "body",
        tag("h1", title),
        tag("p", summary),
        *([tag("p", note, class_="note")] if note else []),
        headlines(results),
        tag("h2", "Scores"),
        tag(
            "p",
            "All methods on the same test galaxies; a score is the mean over seeds, small print "
            "its 95 % interval by bootstrap over galaxies, bold the best of a column. Numbers of "
            "other data are not comparable: they say what the paper found on its galaxies.",
        ),
        *(t for t in found if t is not None),
        tag("h2", "Pictures"),
        *(_figure(plot) for plot in plots),
        tag("h2", "Protocol and provenance"),
        tag("dl", *(e for k, v in about.items() for e in (tag("dt", k), tag("dd", v)))),
    )


def _figure(plot: Plot) -> Element:
    image = tag("img", src=data_uri(plot.figure), alt=plot.title)
    caption = tag("figcaption", plot.caption)
    return tag("figure", tag("h3", plot.title), tag("div", image, class_="wide"), caption)


def _head(title: str) -> Element:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", (Path(__file__).with_name("report.css")).read_text()),
    )
