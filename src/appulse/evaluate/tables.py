"""Results as tables and headline figures of the report: ours beside the baselines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element

from .markup import tag
from .published import PUBLISHED, SOURCE, Published
from .results import DIFFERENCE, Modality, Result

LOWER_IS_BETTER = {"NMAD", "CRPS", "NLL", "outliers > .01", "outliers > .05", "outliers > .15"}
NAMES = {
    "redshift": "z",
    "log_mstar": "log M★",
    "age": "age",
    "log_zsol": "log Z",
    "log_ssfr": "log sSFR",
}
PHYSICS = {name: title for name, title in NAMES.items() if name != "redshift"}


class Column(NamedTuple):
    """Which results a column has, and its heading."""

    modality: Modality
    target: str
    metric: str
    heading: str


@dataclass(frozen=True)
class Table:
    """Rows are the methods that have any of the columns; a sentence may say more."""

    title: str
    columns: Sequence[Column]
    said: str = ""


def _columns(modality: Modality, *scores: tuple[str, str, str]) -> list[Column]:
    return [Column(modality, *score) for score in scores]


def _redshift(modality: Modality, *metrics: str) -> list[Column]:
    return _columns(modality, *(("redshift", metric, metric) for metric in metrics))


def _properties(modality: Modality) -> list[Column]:
    each = ((target, "R²", name) for target, name in PHYSICS.items())
    return _columns(modality, ("properties", "mean R²", "mean R²"), *each)


def _ranks(modality: Modality) -> list[Column]:
    metrics = [*(f"top-{k}" for k in (1, 5, 10)), "median rank"]
    metrics += [f"median rank of {pool}" for pool in (30, 100, 300)]
    return _columns(modality, *(("partner", metric, metric) for metric in metrics))


def _likeness(modality: Modality) -> list[Column]:
    return _columns(modality, *((name, "neighbours' R²", title) for name, title in NAMES.items()))


_SHIFT = "Δz / (1 + z)."
_RANKED = "Among three disjoint pools of test galaxies, 1,000 each where there are enough."
_LIKE = "R² of the mean of the ten nearest but the partner, against the galaxy's own value."
TABLES = [
    Table(
        "Redshift from images",
        _redshift("image", "R²", "NMAD", "bias", "outliers > .05", "outliers > .15", "CRPS"),
        _SHIFT,
    ),
    Table(
        "Redshift from spectra",
        _redshift("spectrum", "R²", "within .003", "NMAD", "bias", "outliers > .01", "CRPS"),
        _SHIFT,
    ),
    Table("Properties from images: R²", _properties("image")),
    Table("Properties from spectra: R²", _properties("spectrum")),
    Table(
        "Posteriors of all properties: mean negative log density of the truth, nats",
        [
            Column("image", "posterior", "NLL", "from image"),
            Column("spectrum", "posterior", "NLL", "from spectrum"),
            Column("both", "posterior", "NLL", "from both"),
        ],
        "Less is better. AstroCLIP's README has no such numbers to set beside.",
    ),
    Table(
        "Morphology from images",
        _columns(
            "image", *(("morphology", m, m) for m in ("accuracy", "balanced accuracy", "macro F1"))
        ),
        "The published ones are by networks of three layers on embeddings, but for Zoobot.",
    ),
    Table("Image → spectrum: rank of the true partner", _ranks("image → spectrum"), _RANKED),
    Table("Spectrum → image: rank of the true partner", _ranks("spectrum → image"), _RANKED),
    Table("Likeness of neighbours, image → spectrum", _likeness("image → spectrum"), _LIKE),
    Table("Likeness of neighbours, spectrum → image", _likeness("spectrum → image"), _LIKE),
]
OURS = ("appulse", "appulse, redshift coordinate", "appulse, MLP probe")  # in headlines, in order
HEADLINES: list[tuple[Modality, str, str, str]] = [
    ("image → spectrum", "partner", "top-10", "true spectrum among the 10 nearest of an image"),
    ("image → spectrum", "partner", "top-1", "true spectrum is the nearest"),
    ("spectrum", "redshift", "within .003", "redshifts from spectra within .003"),
    ("image", "redshift", "R²", "redshift from images, R²"),
    ("image", "properties", "mean R²", "mass, age, metallicity, sSFR from images, mean R²"),
]


def table(spec: Table, results: Iterable[Result]) -> Element | None:
    """A table of methods by scores, ours first, the best of each column marked; None if empty.

    Of a method that learned from several numbers of labels, the most count. Published numbers,
    if there are any, come last and compete with none.
    """
    keys = [column[:3] for column in spec.columns]
    shown = [r for r in results if (r.modality, r.target, r.metric) in keys]
    if not shown:
        return None
    shown.sort(key=lambda r: r.n_train)
    cells = {(r.method, r.modality, r.target, r.metric): r for r in shown}
    columns = [c for c in spec.columns if any(key[1:] == c[:3] for key in cells)]
    lines = {
        name: [cells.get((name, *c[:3])) for c in columns]
        for name in dict.fromkeys(r.method for r in shown)
    }
    headings = [*(c.heading for c in columns), "trained on"]
    labels = dict.fromkeys(r.column for r in cells.values() if r.column)
    said = [spec.said] if spec.said else []
    said += [f"Scored on {', '.join(sorted(labels))}."] if labels else []
    return _section(
        (spec.title, _tested(shown)), headings, lines, _published(columns), " ".join(said)
    )


def label_table(modality: Modality, results: Iterable[Result]) -> Element | None:
    """How the mean R² of the properties grows with the number of labels; None if all have one."""
    key = (modality, "properties", "mean R²")
    found = [r for r in results if (r.modality, r.target, r.metric) == key]
    cells = {(r.method, r.n_train): r for r in found}
    several = [m for m in dict.fromkeys(r.method for r in found) if _sizes(found, m) > 1]
    if not several:
        return None
    counts = sorted({r.n_train for r in found if r.method in several})
    lines = {name: [cells.get((name, n)) for n in counts] for name in several}
    title = f"By number of labels, {modality}: mean R² of properties"
    return _section((title, ""), [f"{n:,} labels" for n in counts], lines, [], "")


def _tested(results: Sequence[Result]) -> str:
    """How many galaxies were scored, and what on fewer than most."""
    most = max(r.n_test for r in results)
    fewer = {r.metric: r.n_test for r in results if r.n_test < most / 2}
    return f"{most:,} test galaxies" + "".join(f", {n:,} for {m}" for m, n in fewer.items())


def _sizes(results: Iterable[Result], method: str) -> int:
    return len({r.n_train for r in results if r.method == method})


def goodness(result: Result) -> float:
    """A number that grows with the quality of the result, whatever its metric."""
    if result.metric == "bias":
        return -abs(result.value)
    lower = result.metric in LOWER_IS_BETTER or result.metric.startswith("median rank")
    return -result.value if lower else result.value


def _section(
    title: tuple[str, str],
    headings: Sequence[str],
    lines: Mapping[str, Sequence[Result | None]],
    after: Sequence[Element],
    said: str,
) -> Element:
    """A titled table; each line is a method's results by column."""
    best = [
        max((r for r in column if r), key=goodness, default=None)
        for column in zip(*lines.values(), strict=True)
    ]
    sized = headings[-1] == "trained on"
    rows = sorted(lines.items(), key=lambda line: next(r.baseline for r in line[1] if r))
    body = [_row(name, cells, best, sized) for name, cells in rows]
    head = tag("tr", *(tag("th", text) for text in ("method", *headings)))
    inside = tag("table", tag("thead", head), tag("tbody", *body, *after))
    return tag(
        "section",
        tag("h3", title[0], " ", tag("small", title[1])),
        tag("div", inside, class_="wide"),
        *([tag("small", said, class_="scored")] if said else []),
    )


def _row(
    name: str, cells: Sequence[Result | None], best: Sequence[Result | None], sized: bool
) -> Element:
    row = max((r for r in cells if r), key=lambda r: r.n_train)
    badge: list[Element | str] = [" ", tag("small", "baseline")] if row.baseline else []
    times = f" × {row.seeds}" if row.seeds > 1 else ""
    size = [tag("td", f"{row.n_train:,}{times}" if row.n_train else "–")] if sized else []
    return tag(
        "tr",
        tag("th", name, *badge, scope="row"),
        *(_cell(r, r is b) if r else tag("td", "–") for r, b in zip(cells, best, strict=True)),
        *size,
        class_="baseline" if row.baseline else "ours",
    )


def _cell(result: Result, best: bool) -> Element:
    value = _number(result.metric, result.value)
    return tag("td", tag("b" if best else "span", value), tag("small", _interval(result)))


def _published(columns: Sequence[Column]) -> list[Element]:
    """Rows of published numbers, under a line that says whose they are."""
    there: dict[str, dict[tuple[str, ...], Published]] = {}
    for p in PUBLISHED:
        if any(p[1:4] == column[:3] for column in columns):
            there.setdefault(p.method, {})[p[1:4]] = p
    if not there:
        return []
    rows = []
    for name, cells in there.items():
        found = (cells.get(column[:3]) for column in columns)
        texts = ("" if p is None else f"{p.value:.2f}" for p in found)
        heading = tag("th", name, scope="row")
        rows.append(tag("tr", heading, *(tag("td", t) for t in (*texts, "")), class_="published"))
    line = tag("td", SOURCE, colspan=str(len(columns) + 2))
    return [tag("tr", line, class_="source"), *rows]


def _number(metric: str, value: float) -> str:
    if metric.startswith("median rank"):
        text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    elif metric in ("NMAD", "bias"):
        text = f"{value:.5f}"
    elif metric == "CRPS":
        text = f"{value:.4f}"
    else:
        text = f"{value:.3f}"
    return text.replace("-", "−")


def headlines(results: Sequence[Result]) -> Element:
    """A card for each number people ask for first: ours, its interval, the best baseline."""
    cards = []
    for modality, target, metric, meaning in HEADLINES:
        ours, rival = best(results, modality, target, metric)
        if ours is None:
            continue
        said = [f"95 %: {_interval(ours)}"]
        if rival is not None:
            said.append(f"baseline {_number(metric, rival.value)}: {rival.method}")
        said += [
            f"difference {_number(metric, r.value)} ({_interval(r)}), paired"
            for r in results
            if (r.modality, r.target, r.metric) == (modality, target, metric + DIFFERENCE)
        ]
        cards.append(
            tag(
                "div",
                tag("div", _number(metric, ours.value), class_="value"),
                tag("div", meaning),
                *(tag("small", text) for text in said),
                class_="card",
            )
        )
    return tag("div", *cards, class_="cards")


def _interval(result: Result) -> str:
    return " … ".join(_number(result.metric, x) for x in (result.low, result.high))


def best(
    results: Sequence[Result], modality: str, target: str, metric: str
) -> tuple[Result | None, Result | None]:
    """Our result and the best baseline's, of each method with the most labels.

    Ours is that of the first of `OURS` that has one, else of the method that comes first: which
    of several is best on test galaxies would be chosen by chance, too. The rival may profit.
    """
    key = (modality, target, metric)
    found = [r for r in results if (r.modality, r.target, r.metric) == key]
    most = {r.method: r for r in sorted(found, key=lambda r: r.n_train)}.values()
    rank = {name: place for place, name in enumerate(OURS)}
    ours = (r for r in most if not r.baseline)
    return (
        min(ours, key=lambda r: rank.get(r.method, len(rank)), default=None),
        max((r for r in most if r.baseline), key=goodness, default=None),
    )
