"""Results as tables and headline figures of the report: ours beside the baselines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .markup import tag
from .results import Result

LOWER_IS_BETTER = {"NMAD", "outliers > .01", "outliers > .05", "outliers > .15"}
NAMES = {
    "redshift": "z",
    "log_mstar": "log M★",
    "age": "age",
    "log_zsol": "log Z",
    "log_ssfr": "log sSFR",
}
_PROPERTIES = [(target, "R²", name) for target, name in NAMES.items()] + [
    ("morphology", "accuracy", "morphology"),
    ("morphology", "balanced accuracy", "balanced over classes"),
]
_REDSHIFT = [
    ("redshift", metric, metric)
    for metric in ("within .003", "NMAD", "bias", "outliers > .05", "outliers > .15")
]
_RANKS = [("partner", metric, metric) for metric in ("top-1", "top-5", "top-10", "median rank")]
_LIKENESS = [(target, "neighbours' R²", name) for target, name in NAMES.items()]


@dataclass(frozen=True)
class Table:
    """Which results make a table: one modality, and (target, metric, heading) of each column."""

    title: str
    modality: str
    columns: list[tuple[str, str, str]]


TABLES = [
    Table("Image → spectrum: rank of the true partner", "image → spectrum", _RANKS),
    Table("Spectrum → image: rank of the true partner", "spectrum → image", _RANKS),
    Table("Properties from images: R², and accuracy of the morphology", "image", _PROPERTIES),
    Table("Properties from spectra: R², and accuracy of the morphology", "spectrum", _PROPERTIES),
    Table("Redshift from images: Δz / (1 + z)", "image", _REDSHIFT[1:]),
    Table("Redshift from spectra: Δz / (1 + z)", "spectrum", _REDSHIFT),
    Table(
        "Likeness of neighbours other than the partner, image → spectrum: R² of the mean of ten",
        "image → spectrum",
        _LIKENESS,
    ),
    Table("The same, spectrum → image", "spectrum → image", _LIKENESS),
]
HEADLINES = [
    ("image → spectrum", "partner", "top-10", "true spectrum among the 10 nearest of an image"),
    ("image → spectrum", "partner", "top-1", "true spectrum is the nearest"),
    ("spectrum", "redshift", "within .003", "redshifts from spectra within .003"),
    ("image", "redshift", "R²", "redshift from images, R²"),
]


def table(spec: Table, results: Iterable[Result]) -> Element | None:
    """A table of methods by scores, ours first, the best of each column marked; None if empty."""
    wanted = {(target, metric) for target, metric, _ in spec.columns}
    shown = [r for r in results if r.modality == spec.modality and (r.target, r.metric) in wanted]
    if not shown:
        return None
    best: dict[tuple[str, str], Result] = {}
    for result in sorted(shown, key=goodness):
        best[result.target, result.metric] = result
    columns = [c for c in spec.columns if c[:2] in best]
    cells = {(r.method, r.target, r.metric): r for r in shown}
    methods = {r.method: r for r in sorted(shown, key=lambda r: r.baseline)}
    head = tag(
        "tr", *(tag("th", text) for text in ("method", *(c[2] for c in columns), "trained on"))
    )
    labels = dict.fromkeys(best[c[:2]].column for c in columns if best[c[:2]].column)
    scored = [tag("small", f"scored on {', '.join(labels)}", class_="scored")] if labels else []
    body = [
        _row(row, [cells.get((name, *c[:2])) for c in columns], best)
        for name, row in methods.items()
    ]
    n_test = max(r.n_test for r in best.values())
    return tag(
        "section",
        tag("h3", spec.title, " ", tag("small", f"{n_test:,} test galaxies")),
        tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide"),
        *scored,
    )


def goodness(result: Result) -> float:
    """A number that grows with the quality of the result, whatever its metric."""
    if result.metric == "bias":
        return -abs(result.value)
    lower = result.metric in LOWER_IS_BETTER or result.metric.startswith("median rank")
    return -result.value if lower else result.value


def _row(
    row: Result, cells: list[Result | None], best: Mapping[tuple[str, str], Result]
) -> Element:
    badge: list[Element | str] = [" ", tag("small", "baseline")] if row.baseline else []
    return tag(
        "tr",
        tag("th", row.method, *badge, scope="row"),
        *(tag("td", "–") if r is None else _cell(r, best[r.target, r.metric] is r) for r in cells),
        tag("td", f"{row.n_train:,}" if row.n_train else "–"),
        class_="baseline" if row.baseline else "ours",
    )


def _cell(result: Result, best: bool) -> Element:
    value = _number(result, result.value)
    interval = f"{_number(result, result.low)} … {_number(result, result.high)}"
    return tag("td", tag("b" if best else "span", value), tag("small", interval))


def _number(result: Result, value: float) -> str:
    if result.metric.startswith("median rank"):
        text = f"{value:.0f}"
    elif result.metric in ("NMAD", "bias"):
        text = f"{value:.5f}"
    else:
        text = f"{value:.3f}"
    return text.replace("-", "−")


def headlines(results: Sequence[Result]) -> Element:
    """A card for each number people ask for first: ours, its interval, the best baseline."""
    cards = []
    for modality, target, metric, meaning in HEADLINES:
        found = [
            r for r in results if (r.modality, r.target, r.metric) == (modality, target, metric)
        ]
        ours = max((r for r in found if not r.baseline), key=goodness, default=None)
        rival = max((r for r in found if r.baseline), key=goodness, default=None)
        if ours is None:
            continue
        against = [f"baseline {_number(rival, rival.value)}: {rival.method}"] if rival else []
        cards.append(
            tag(
                "div",
                tag("div", _number(ours, ours.value), class_="value"),
                tag("div", meaning),
                tag("small", f"95 %: {_number(ours, ours.low)} … {_number(ours, ours.high)}"),
                *(tag("small", text) for text in against),
                class_="card",
            )
        )
    return tag("div", *cards, class_="cards")
