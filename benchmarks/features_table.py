"""Scores of what benchmarks/features.py made: means over seeds, 95 % intervals over galaxies.

    python benchmarks/features_table.py v2-100k.lance WORK

Differences are paired: both methods are scored on the same draws of galaxies.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from appulse.evaluate.retrieval import pool_rows
from appulse.metrics import (
    accuracy,
    balanced_accuracy,
    bootstrap,
    fraction_within,
    mean_r2,
    nmad,
    partner_ranks,
    r2,
)
from appulse.survey.survey import PROPERTIES
from features import COUNTS, Bench
from record import RESULTS, write_result

Score = Callable[[np.ndarray], float]  # of some test galaxies
DRAWS = 500
PROBES = ("k-NN", "ridge", "MLP")
REDSHIFT: dict[str, Callable[..., float]] = {
    "NMAD": nmad,
    "within .003": partial(fraction_within, limit=0.003),
    "within .01": partial(fraction_within, limit=0.01),
}
CLASSES: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "balanced accuracy": balanced_accuracy,
}
PLURAL = {"image": "images", "spectrum": "spectra"}
RIVALS = {"image": "ResNet", "spectrum": "Conv+Att"}
OURS = {"image": "appulse, image and expected", "spectrum": "spectrum SSL, spectrum"}
FEW = {"image": "appulse, expected", "spectrum": "spectrum SSL, spectrum"}  # where labels are few
FEW_RIVALS = {"image": ("ResNet", "apertures, image"), "spectrum": ("Conv+Att",)}


class Table:
    """Scores as functions of test galaxies."""

    def __init__(self, bench: Bench):
        self.bench, self.all = bench, len(bench.y["head-train"])
        self.truth = dict(zip(PROPERTIES, bench.y["test"].T, strict=True))
        self.truth["morphology"] = bench.labels["test"]["morphology"]
        self.rows = np.arange(len(bench.y["test"]))

    def made(self, name: str) -> list[dict[str, np.ndarray]]:
        """What a method made, by seed; as many as there are."""
        paths = sorted(self.bench.work.glob(f"seed-*/{name}.npz"))
        return [dict(np.load(path)) for path in paths]

    def predicted(self, name: str, probe: str, target: str) -> list[np.ndarray]:
        """A target's predictions, by seed."""
        found = [made for made in self.made(name) if probe in made or target in made]
        if target in PROPERTIES:
            column = PROPERTIES.index(target)
            return [m[target] if target in m else m[probe][:, column] for m in found]
        return [made[target] for made in found if target in made]

    def score(
        self, name: str, probe: str, target: str, metric: Callable[..., float] = r2
    ) -> Score | None:
        """The mean of a metric over seeds; None if nothing was made."""
        values, truth = self.predicted(name, probe, target), self.truth[target]
        if not values:
            return None
        return lambda rows: float(np.mean([metric(v[rows], truth[rows]) for v in values]))

    def mean_r2(self, name: str, probe: str) -> Score | None:
        """The mean R² of all properties."""
        scores = [self.score(name, probe, target) for target in PROPERTIES]
        if any(score is None for score in scores):
            return None
        return lambda rows: float(np.mean([score(rows) for score in scores if score]))

    def of_labels(self, name: str, count: int) -> Score | None:
        """Mean R² of a network, or of our features by the probe that is best on validation."""
        if name in RIVALS.values():
            return self.mean_r2(f"{name}, {count} labels", "properties")
        learned = self.with_labels(name, count)
        return self.mean_r2(learned, self.best_probe(learned))

    def with_labels(self, name: str, count: int) -> str:
        """Under which name features with so many labels are kept."""
        return f"{name}, {count} labels" if count < self.all else name

    def best_probe(self, name: str) -> str:
        """By the mean over seeds of R² on validation."""
        made = self.made(name)
        return max(PROBES, key=lambda p: np.mean([float(m[f"{p}, validation"]) for m in made]))

    def by_seed(self, name: str, count: int) -> dict[str, Any]:
        """Which probe features are judged by, and its mean R² with each seed."""
        learned = self.with_labels(name, count)
        probe = self.best_probe(learned)
        truth = np.stack([self.truth[target] for target in PROPERTIES], axis=1)
        each = [round(mean_r2(made[probe], truth), 4) for made in self.made(learned)]
        return {"probe": probe, "by seed": each}

    def recall(self, name: str, k: int) -> Score | None:
        """How often an image's own spectrum is among the first k of 1,000, three pools."""
        hits = [_hits(made, k) for made in self.made(f"vectors of {name}")]
        return (lambda rows: float(np.nanmean([h[rows] for h in hits]))) if hits else None

    def estimate(self, score: Score) -> list[float]:
        """Value and 95 % interval."""
        return [round(v, 4) for v in bootstrap(score, self.rows, n=DRAWS)]

    def difference(self, ours: Score | None, theirs: Score | None) -> dict[str, Any]:
        """Both scores, and their paired difference."""
        if ours is None or theirs is None:
            return {}
        return {
            "ours": self.estimate(ours),
            "theirs": self.estimate(theirs),
            "difference": self.estimate(lambda rows: ours(rows) - theirs(rows)),
        }

    @cached_property
    def methods(self) -> list[str]:
        """Names of all that was made but vectors."""
        names = {path.stem for path in self.bench.work.glob("seed-*/*.npz")}
        return sorted(name for name in names if not name.startswith("vectors of "))


def _hits(made: dict[str, np.ndarray], k: int) -> np.ndarray:
    """1 where an image finds its spectrum, 0 where not; NaN for galaxies in no pool."""
    image, spectrum = (made[name] if name in made else made[f"{name}, test"] for name in RIVALS)
    hits = np.full(len(image), np.nan)
    for pool in pool_rows(len(image)):
        hits[pool] = partner_ranks(image[pool] @ spectrum[pool].T) <= k
    return hits


def goals(table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """The comparisons that issue 5 asks for, each with its goal for the difference."""
    for probe in ("k-NN", "MLP"):
        yield from _properties(table, "spectrum", probe, "Conv+Att", -0.02)
    rivals = ("ResNet", "aperture boosting", "apertures")
    for probe, rival in ((probe, rival) for probe in ("k-NN", "MLP") for rival in rivals):
        yield from _properties(table, "image", probe, rival, 0.0)
    within = partial(fraction_within, limit=0.003)
    redshifts = [
        table.score(name, "", "redshift", within)
        for name in ("dictionary", "template cross-correlation, spectrum")
    ]
    yield "redshift within .003: dictionary − template", {**table.difference(*redshifts), "goal": 0}
    for name in ("structure, image", "appulse, image and expected", "image SSL, image"):
        ours = table.score(name, "", "morphology", accuracy)
        theirs = table.score(f"ResNet, {table.all} labels", "", "morphology", accuracy)
        yield f"morphology: {name} − ResNet", {**table.difference(ours, theirs), "goal": -0.02}
    for count in (*COUNTS, table.all):
        yield from _label_efficiency(table, count)


def _label_efficiency(table: Table, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mean R² of the properties, by how much ours is ahead, and its scatter over seeds.

    With few labels each seed has others.
    """
    for modality, rival in ((m, rival) for m, rivals in FEW_RIVALS.items() for rival in rivals):
        ours, theirs = table.of_labels(FEW[modality], count), table.of_labels(rival, count)
        report = table.difference(ours, theirs)
        if ours and theirs:
            ratio = table.estimate(partial(_ahead, ours, theirs))
            report |= {"ahead by": ratio, "goal": 0.19 if count <= 1000 else None}
            report |= table.by_seed(FEW[modality], count)
        yield f"mean R², {modality}, {count} labels: {FEW[modality]} − {rival}", report


def _ahead(ours: Score, theirs: Score, rows: np.ndarray) -> float:
    return ours(rows) / theirs(rows) - 1


def _properties(
    table: Table, modality: str, probe: str, rival: str, goal: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    for target in PROPERTIES:
        ours = table.score(OURS[modality], probe, target)
        full = (
            f"{rival}, {table.all} labels" if rival in RIVALS.values() else f"{rival}, {modality}"
        )
        theirs = table.score(full, "properties", target) or table.score(full, "MLP", target)
        title = f"{target}, {modality}: {OURS[modality]}, {probe} − {rival}"
        yield title, {**table.difference(ours, theirs), "goal": goal}


def scores(table: Table) -> dict[str, Any]:
    """Every method's R² by property, redshift scores and accuracy of morphology."""
    found: dict[str, Any] = {}
    for name in table.methods:
        first = table.made(name)[0]
        for probe in first.keys() & {"k-NN", "MLP", "properties"} or {""}:
            title = f"{name}, {probe}" if probe in ("k-NN", "MLP") else name
            report: dict[str, Any] = {"seeds": len(table.made(name))}
            for target in PROPERTIES:
                if score := table.score(name, probe, target):
                    report[target] = table.estimate(score)
            for metric in REDSHIFT:
                if score := table.score(name, probe, "redshift", REDSHIFT[metric]):
                    report[metric] = [round(v, 6) for v in bootstrap(score, table.rows, n=DRAWS)]
            for kind, share in CLASSES.items() if probe != "k-NN" else ():
                if score := table.score(name, "", "morphology", share):
                    report[f"morphology, {kind}"] = table.estimate(score)
            found[title] = report
    return found


def retrieval(table: Table) -> dict[str, Any]:
    """Top-1 and top-10 of image to spectrum."""
    names = {path.stem for path in table.bench.work.glob("seed-*/vectors of *.npz")}
    found = {}
    for name in sorted(n.removeprefix("vectors of ") for n in names):
        if all(any(m in key for key in table.made(f"vectors of {name}")[0]) for m in RIVALS):
            found[name] = {
                f"top-{k}": table.estimate(score)
                for k in (1, 10)
                if (score := table.recall(name, k))
            }
    return found


def figure(table: Table, path: Path) -> None:
    """Mean R² against the number of labels."""
    counts = [*COUNTS, table.all]
    panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")[1]
    for axis, (modality, rivals) in zip(panels, FEW_RIVALS.items(), strict=True):
        for name in (FEW[modality], *rivals):
            scored = {count: table.of_labels(name, count) for count in counts}
            points = [(count, *table.estimate(score)) for count, score in scored.items() if score]
            x, y, low, high = np.array(points).T
            axis.errorbar(x, y, (y - low, high - y), marker="o", capsize=3, label=name)
        axis.set(xscale="log", xlabel="labelled galaxies", title=f"from {PLURAL[modality]}")
        axis.legend()
    panels[0].set_ylabel("mean R² of five properties")
    panels[0].figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    table = Table(Bench(asked.survey, asked.work))
    compared = dict(goals(table))
    for title, report in compared.items():
        print(title, report)
    print(
        write_result(
            "features",
            {
                "survey": table.bench.store.identity,
                "goals": compared,
                "retrieval": retrieval(table),
                "scores": scores(table),
            },
        )
    )
    figure(table, RESULTS / "features.png")


if __name__ == "__main__":
    main()
