"""Pictures of the report: predictions, classes, bins, labels, and a map of the space.

Shapes: B galaxies, C classes, D embedding.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from ..figures import BLUE, DENSITY, INK, ORANGE, STYLE, learning_curves, predicted_against_true
from ..metrics import Bin, binned, fraction_within, nmad
from ..training.run import read_metrics
from .gallery import neighbour_gallery
from .protocol import Predictions
from .report import LABELS, Plot, property_panels
from .results import Columns, Result, known
from .retrieval import pool_rows
from .scores import Groups
from .study import Study

DIRECTIONS = ("image → spectrum", "spectrum → image", "image → image", "spectrum → spectrum")
MAPPED = 600  # galaxies in a map of the space
BINS, BINNED = 6, 200  # of redshift and of magnitude; draws of the bootstrap in each
COLOURED = ("redshift", "log_mstar", "log_ssfr")
RIVALS = {  # ours, the baseline to be shown with it, a score and its name
    "image": ("appulse, MLP probe", "apertures, MLP probe", nmad, "NMAD"),
    "spectrum": (
        "appulse, redshift coordinate",
        "template cross-correlation",
        lambda z, z_true: fraction_within(z, z_true, 0.003),
        "within .003",
    ),
}


def pictures(study: Study, groups: Groups, results: Sequence[Result]) -> list[Plot]:
    """All that need neither a model nor a posterior."""
    by_size = sorted(groups.items(), key=lambda group: group[0][2])
    first = {(method, modality): rows[0] for (method, modality, _), rows in by_size}
    truth = study.labels["test"]
    probes = [
        p for (m, _), p in first.items() if m == "appulse, MLP probe" and "redshift" in p.values
    ]
    probes.sort(key=lambda p: p.modality)
    plots = [scatter(p, truth) for p in probes]
    looks = [p for (m, _), p in first.items() if m == "appulse structure, MLP probe"]
    plots += [confusion(p, truth) for p in looks or probes if "morphology" in p.values]
    plots += _bins(study, first)
    plots += _labels(results)
    return [*plots, *galleries(study), space(study)]


def scatter(predictions: Predictions, truth: Columns) -> Plot:
    """Each property predicted against its true value."""
    return Plot(
        f"Predicted against true, from {predictions.modality} embeddings",
        predicted_against_true(property_panels(predictions, truth)),
        "An MLP probe on frozen embeddings; shading is the logarithm of counts.",
    )


def confusion(predictions: Predictions, truth: Columns) -> Plot:
    """Who is taken for whom."""
    rows = known(truth["morphology"])
    true, predicted = truth["morphology"][rows], predictions.values["morphology"][rows]
    classes = np.unique(np.concatenate([true, predicted]))
    places = (np.searchsorted(classes, x) for x in (true, predicted))
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, tuple(places), 1)
    return Plot(
        f"Morphology, {predictions.method}, {predictions.modality}: who is taken for whom",
        confusion_matrix(counts, classes.tolist()),
        "Each row is a true class, with its galaxies in brackets; shares add up to 1 along it.",
    )


@rc_context(STYLE)
def confusion_matrix(counts: Int[np.ndarray, "C C"], names: Sequence[str]) -> Figure:
    """Shares of each true class, one row each, by predicted class."""
    total = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(total, 1)
    size = 1.6 + 0.62 * len(names)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap=DENSITY, vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if share[i, j] < 0.5 else "black"
        axes.text(j, i, f"{share[i, j]:.2f}", ha="center", va="center", fontsize=8, color=colour)
    labels = [f"{name} ({n:,})" for name, n in zip(names, total[:, 0], strict=True)]
    axes.set_xticks(range(len(names)), list(names), rotation=30, ha="right")
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _bins(study: Study, first: Mapping[tuple[str, str], Predictions]) -> list[Plot]:
    """Redshift scores by magnitude and by redshift, of ours and of a baseline."""
    truth = study.labels["test"]
    if "redshift" not in truth:
        return []
    z = truth["redshift"]
    coordinates = {"r / mag": study.measured["test"].r_magnitude, "true z": z}
    panels: dict[str, dict[str, dict[str, list[Bin]]]] = {}
    for modality, (*methods, score, name) in RIVALS.items():
        shown = [first[m, modality] for m in methods if (m, modality) in first]
        shown = [p for p in shown if "redshift" in p.values]
        if not shown:
            continue
        for coordinate, at in coordinates.items():
            rows = np.isfinite(z) & np.isfinite(at)
            edges = np.quantile(at[rows], np.linspace(0, 1, BINS + 1))
            edges[-1] = np.nextafter(edges[-1], np.inf)
            panels.setdefault(f"{name}, from {modality}", {})[coordinate] = {
                p.method: binned(
                    score, at[rows], edges.tolist(), p.values["redshift"][rows], z[rows], n=BINNED
                )
                for p in shown
            }
    if not panels:
        return []
    said = "Bins hold equally many test galaxies; bars are 95 % intervals."
    return [Plot("Redshifts by magnitude and by redshift", binned_scores(panels), said)]


@rc_context(STYLE)
def binned_scores(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[Bin]]]]) -> Figure:
    """A row of panels for each score, a panel for each coordinate, a line for each method."""
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(3.9 * columns, 2.5 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharey="row")
    for line, (score, row) in zip(grid, panels.items(), strict=True):
        for axes, (coordinate, methods) in zip(line, row.items(), strict=True):
            for name, bins in methods.items():
                middle = [(b.low + b.high) / 2 for b in bins]
                value = np.array([b.estimate.value for b in bins])
                low = value - [b.estimate.low for b in bins]
                high = [b.estimate.high for b in bins] - value
                errors = np.maximum([low, high], 0)
                axes.errorbar(middle, value, errors, label=name, marker="o", ms=3, linewidth=1.2)
            axes.set_xlabel(coordinate)
            axes.grid(alpha=0.2)
        line[0].margins(y=0.3)  # room for the legend
        line[0].set_ylabel(score)
        line[0].legend()
    return figure


def _labels(results: Sequence[Result]) -> list[Plot]:
    """Mean R² of the properties by number of labels, where methods learned from several."""
    found = [r for r in results if (r.target, r.metric) == ("properties", "mean R²")]
    curves: dict[str, dict[str, list[Result]]] = {}
    for result in sorted(found, key=lambda r: r.n_train):
        curves.setdefault(result.modality, {}).setdefault(result.method, []).append(result)
    curves = {m: {n: c for n, c in by.items() if len(c) > 1} for m, by in curves.items()}
    if not any(curves.values()):
        return []
    said = "Mean over log M★, age, log Z and log sSFR; bars are 95 % intervals over galaxies."
    return [Plot("How many labels it takes", label_curves(curves), said)]


@rc_context(STYLE)
def label_curves(curves: Mapping[str, Mapping[str, Sequence[Result]]]) -> Figure:
    """A panel for each modality, a line for each method: a colour for what a probe reads."""
    figure = Figure(figsize=(4.1 * len(curves), 3.9), layout="constrained")
    grid = np.ravel(figure.subplots(1, len(curves), sharey=True))
    looks = _looks(dict.fromkeys(name for methods in curves.values() for name in methods))
    for axes, (modality, methods) in zip(grid, curves.items(), strict=True):
        for name, line in methods.items():
            value = np.array([r.value for r in line])
            errors = [value - [r.low for r in line], [r.high for r in line] - value]
            counts = [r.n_train for r in line]
            axes.errorbar(counts, value, errors, **looks[name], marker="o", ms=3, linewidth=1.2)
        axes.set(title=f"from {modality}", xlabel="labels", xscale="log")
        axes.grid(alpha=0.2)
    handles = [Line2D([], [], **look, label=name) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    grid[0].set_ylabel("mean R²")
    return figure


def _looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of methods: "embedding, probe" by each, others in ink."""
    parts = {name: name.rpartition(", ") for name in names}
    read = dict.fromkeys(what for what, _, _ in parts.values() if what)
    colours = dict(zip(read, rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    return {
        name: {
            "color": colours.get(what, INK),
            "linestyle": {"k-NN": ":", "ridge": "--", "boosting": "-."}.get(probe, "-"),
        }
        for name, (what, _, probe) in parts.items()
    }


def galleries(study: Study) -> list[Plot]:
    """What the first few galaxies of the first pool find among it, in all four directions."""
    image, spectrum = study.embedded["test"]
    pool = pool_rows(len(image))[0]
    rows = study.sample.rows("test")[pool]
    vectors = {"image": image.vectors[pool], "spectrum": spectrum.vectors[pool]}
    framed = {True: "the query is left out", False: "the true partner is framed"}
    return [
        Plot(
            f"Nearest neighbours, {direction}",
            neighbour_gallery(
                direction, vectors, lambda some: study.sample.store.read(rows[some]), range(5)
            ),
            f"Among {len(pool):,} test galaxies; {framed[len(set(direction.split(' → '))) == 1]}.",
        )
        for direction in DIRECTIONS
    ]


def space(study: Study) -> Plot:
    """The embeddings of test galaxies on a plane, coloured by modality and by physics."""
    both = [e.vectors[:MAPPED] for e in study.embedded["test"]]
    plane = TSNE(random_state=0, init="pca", perplexity=30).fit_transform(np.concatenate(both))
    truth = study.labels["test"]
    colours = {LABELS[n]: truth[n][:MAPPED] for n in COLOURED if n in truth}
    return Plot(
        "The shared space, on a plane",
        space_map(plane[: len(both[0])], plane[len(both[0]) :], colours),
        f"t-SNE (van der Maaten & Hinton 2008) of image and spectrum embeddings of {len(both[0]):,}"
        " test galaxies together; only what is near is meaningful. Every galaxy is there twice.",
    )


@rc_context(STYLE)
def space_map(
    image: Float[np.ndarray, "B 2"],
    spectrum: Float[np.ndarray, "B 2"],
    colours: Mapping[str, Float[np.ndarray, "B"]],
) -> Figure:
    """One panel coloured by modality, then one for each property."""
    figure = Figure(figsize=(2.6 * (1 + len(colours)), 3.2), layout="constrained")
    first, *others = np.ravel(figure.subplots(1, 1 + len(colours)))
    for points, colour, name in ((image, BLUE, "image"), (spectrum, ORANGE, "spectrum")):
        first.scatter(*points.T, s=2, color=colour, label=name, rasterized=True, linewidths=0)
    first.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.2), markerscale=4)
    both = np.concatenate([image, spectrum])
    for axes, (name, values) in zip(others, colours.items(), strict=True):
        low, high = np.nanpercentile(values, [2, 98])
        shown: Any = axes.scatter(
            *both.T, s=2, c=np.tile(values, 2), cmap=DENSITY, vmin=low, vmax=high, rasterized=True,
            linewidths=0,
        )  # fmt: skip
        bar = figure.colorbar(shown, ax=axes, location="bottom", label=name, pad=0.03, aspect=30)
        bar.outline.set_edgecolor(INK)
    for axes in (first, *others):
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set_visible(False)
    return figure


def learning(runs: Mapping[str, Path]) -> list[Plot]:
    """Learning curves of training runs, by title."""
    curves = {}
    for title, path in runs.items():
        lines = read_metrics(path)
        curves[title] = {
            name: ([m["step"] for m in lines if key in m], [m[key] for m in lines if key in m])
            for name, key in (("training loss", "loss"), ("validation loss", "validation_loss"))
        }
    return [Plot("Learning curves", learning_curves(curves))] if curves else []
