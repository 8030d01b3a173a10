"""What the features are worth, on a frozen survey: predictions of every method, by seed.

    appulse simulate --n 100000 --seed 1002 --out v2-100k.lance
    python benchmarks/features.py v2-100k.lance WORK --seeds 0 1 2
    python benchmarks/features_table.py v2-100k.lance WORK

Towers learn on encoder-train without labels, probes and supervised networks on labels of
head-train; 1,000 galaxies of validation say when to stop, the first 6,000 of test are predicted.
What is in WORK is not done again, so parts of the whole may run one after another (`--only`);
files of a method that has changed are to be deleted first.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from appulse.evaluate import baselines as simple
from appulse.evaluate.baselines import Boosting, TemplateMatch, magnitudes_and_colours
from appulse.evaluate.measured import PCA_GALAXIES, component_scores
from appulse.evaluate.sample import labels_of
from appulse.evaluate.supervised import (
    SupervisedConfig,
    SupervisedLearner,
    conv_att,
    read_pixels,
    resnet,
    stretched,
)
from appulse.metrics import mean_r2
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.structure import structure
from appulse.survey.survey import PROPERTIES, Survey
from appulse.tasks.probes import KNNProbe, MLPProbe, RidgeProbe
from features_towers import NANOMAGGIES, TOTAL, VARIANTS, Towers, Vectors, same, without_brightness

COUNTS = (100, 300, 1000, 3000)  # labels, and all
SIZES = {"head-train": None, "validation": 1000, "test": 6000}  # galaxies of each part
LABEL_EFFICIENT = ("appulse, image", "appulse, expected", "spectrum SSL, spectrum")
Made = dict[str, np.ndarray]  # predictions of test galaxies by target, or vectors


class Bench:
    """The galaxies of the three parts, and a folder of what methods made of them."""

    def __init__(self, survey: Path, work: Path):
        self.survey, self.work, self.store = survey, work, SurveyStore.open(survey)
        self.rows = {part: self.store.rows(part)[:n] for part, n in SIZES.items()}
        known = {part: labels_of(self.store, part) for part in SIZES}
        self.labels = {
            part: {name: values[: len(self.rows[part])] for name, values in columns.items()}
            for part, columns in known.items()
        }
        stacked = ((p, [known[n] for n in PROPERTIES]) for p, known in self.labels.items())
        self.y = {part: np.stack(columns, axis=1) for part, columns in stacked}
        self.morphology = {part: known["morphology"] for part, known in self.labels.items()}

    def kept(self, name: str, seed: int, make: Callable[[], Made]) -> Made:
        """What `make` makes, made once."""
        path = self.work / f"seed-{seed}" / f"{name}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = make()
            with path.with_suffix(".part").open("wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]
            path.with_suffix(".part").rename(path)
            print(path, flush=True)
        with np.load(path) as file:
            return dict(file)

    def subset(self, count: int, seed: int) -> np.ndarray:
        """Which galaxies of head-train are labelled: the same for every method."""
        order = np.random.default_rng(seed).permutation(len(self.rows["head-train"]))
        return np.sort(order[:count])

    def spectra(self, rows: np.ndarray) -> Spectra:
        """Of rows of the survey."""
        return self.store.take(rows, ["spectra"])["spectra"]

    def components(self, modality: str) -> Vectors:
        """Principal components of pixels, learned from encoder-train; see `component_scores`."""
        rows = self.rows | {"encoder-train": self.store.rows("encoder-train")[:PCA_GALAXIES]}

        def seen(look: Callable[[Survey], np.ndarray]) -> Vectors:
            return {part: self.looked(look, some) for part, some in rows.items()}

        if modality == "image":
            return component_scores(seen(lambda s: simple.image_pixels(s.images.filled())))
        brightness = seen(lambda s: simple.brightness(s.spectra))
        return component_scores(seen(lambda s: simple.spectrum_pixels(s.spectra)), brightness)

    def structure(self) -> Vectors:
        """Of the images, in units of its scatter."""

        found = {p: self.looked(lambda s: structure(s.images), r) for p, r in self.rows.items()}
        return {part: values / found["head-train"].std(0) for part, values in found.items()}

    def looked(self, look: Callable[[Survey], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """What `look` makes of some rows, a few at a time."""
        pieces = np.array_split(rows, -(-len(rows) // 500))
        return np.concatenate([look(self.store.read(some)) for some in pieces])

    def template_redshifts(self) -> Made:
        """Redshifts of the test's spectra by cross-correlation with mean spectra of head-train."""
        z = self.labels["head-train"]["redshift"]
        match = TemplateMatch.fit(self.spectra(self.rows["head-train"]), z)
        pieces = np.array_split(self.rows["test"], 12)
        return {"redshift": np.concatenate([match.predict(self.spectra(r)) for r in pieces])}

    def pixels(self, part: str, config: SupervisedConfig, name: str) -> np.ndarray:
        """What a supervised network sees of a part; read once, and memory-mapped."""
        path = self.work / "pixels" / f"{part}-{name}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, read_pixels(self.store, self.rows[part], config))
        return np.load(path, mmap_mode="r")


def supervised(bench: Bench, seed: int, counts: Sequence[int]) -> None:
    """ResNet on images and Conv+Att on spectra from so many labels."""
    for count in counts:
        for name, recipe in (("ResNet", resnet), ("Conv+Att", conv_att)):
            asked = partial(trained, bench, recipe(count, seed), name, count)
            bench.kept(f"{name}, {count} labels", seed, asked)


def trained(bench: Bench, config: SupervisedConfig, name: str, count: int) -> Made:
    """Predictions of a network that learned from `count` labels; of morphology too, from all."""
    learn = partial(learned_from_pixels, bench, config, name, count)
    made = {"properties": learn(bench.y)("test")}
    if name == "ResNet" and count == len(bench.rows["head-train"]):
        made["morphology"] = learn(bench.morphology)("test")
    return made


def learned_from_pixels(
    bench: Bench, config: SupervisedConfig, name: str, count: int, y: Made, times: int = 1
) -> Callable[[str], np.ndarray]:
    """A network's predictions by part; it learns in so many times its steps, once."""
    classes = config.classes and stretched(config.classes, times)
    config = replace(config, training=stretched(config.training, times), classes=classes)
    run = f"{name}-{count}" + (f", {times} times" if times > 1 else "")
    out = bench.work / f"seed-{config.training.seed}" / "runs" / run
    rows = bench.subset(count, config.training.seed)
    x, x_val = (bench.pixels(part, config, name) for part in ("head-train", "validation"))
    known = x[rows], y["head-train"][rows], np.array(x_val), y["validation"]
    network = SupervisedLearner(config, out, "cpu").fit(*known)
    return lambda part: network.predict(np.array(bench.pixels(part, config, name)))


def features(bench: Bench, seed: int, counts: Sequence[int]) -> None:
    """Our towers, and each half of them alone, through probes."""
    towers = Towers(bench.survey, bench.work / f"seed-{seed}", seed)
    bench.kept("dictionary", seed, lambda: {"redshift": towers.redshifts()})
    vectors: dict[str, Callable[[], Vectors]] = {
        "spectrum SSL": towers.spectrum_alone,
        "appulse": partial(towers.aligned, "appulse"),
        "image SSL": partial(towers.image_alone, True),
        "random weights": partial(towers.image_alone, False),
        "masked transformer": towers.transformer_alone,
    }
    for name, make in vectors.items():
        made = bench.kept(f"vectors of {name}", seed, make)
        for kind, seen in kinds(made).items():
            bench.kept(f"{name}, {kind}", seed, partial(probed, bench, seen, seed))
            if f"{name}, {kind}" in LABEL_EFFICIENT:
                for count in counts:
                    some = partial(probed, bench, seen, seed, count)
                    bench.kept(f"{name}, {kind}, {count} labels", seed, some)
    x = bench.kept("vectors of structure", 0, bench.structure)
    bench.kept("structure, image", seed, partial(probed, bench, x, seed))
    seen = kinds(bench.kept("vectors of appulse", seed, vectors["appulse"]))["image and expected"]
    both = {part: np.hstack([seen[part], x[part]]) for part in SIZES}
    bench.kept("appulse, image, expected and structure", seed, partial(probed, bench, both, seed))


def kinds(made: Vectors) -> dict[str, Vectors]:
    """Features by part: of a modality; expected of the spectrum, given the image; and both."""
    names = {key.split(", ")[0] for key in made}
    found = {name: {part: made[f"{name}, {part}"] for part in SIZES} for name in sorted(names)}
    if "expected" in found:
        scale = found["expected"]["head-train"].std(0)
        found["image and expected"] = {
            part: np.hstack([3 * found["image"][part], found["expected"][part] / scale])
            for part in SIZES
        }
    return found


def stages(bench: Bench, seed: int) -> None:
    """Alignment in the demo's steps, with a stage left out, and MLPs in place of the towers."""
    towers = Towers(bench.survey, bench.work / f"seed-{seed}", seed)
    vectors: dict[str, Callable[[], Vectors]] = {
        "MLP towers": partial(towers.feature_towers, same),
        "MLP towers without brightness": partial(towers.feature_towers, without_brightness),
        **{name: partial(towers.aligned, name) for name in VARIANTS if name != "appulse"},
    }
    for name, make in vectors.items():
        made = bench.kept(f"vectors of {name}", seed, make)
        for kind, seen in kinds(made).items():
            bench.kept(f"{name}, {kind}", seed, partial(probed, bench, seen, seed))


def probed(bench: Bench, seen: Vectors, seed: int, count: int | None = None) -> Made:
    """Predictions of three probes, their R² on validation; with all labels the morphology too."""
    rows = bench.subset(count or len(seen["head-train"]), seed)
    x, y = seen["head-train"][rows], bench.y["head-train"][rows]
    others = seen["validation"], bench.y["validation"]
    probes: dict[str, KNNProbe | RidgeProbe | MLPProbe] = {
        "k-NN": KNNProbe.fit(x, y, *others),
        "ridge": RidgeProbe.fit(x, y, *others),
        "MLP": MLPProbe.fit(x, y, *others, seed=seed),
    }
    made = {name: probe.predict(seen["test"]) for name, probe in probes.items()}
    for name, probe in probes.items():
        made[f"{name}, validation"] = np.array(mean_r2(probe.predict(others[0]), others[1]))
    if count is None:
        names, names_val = (bench.morphology[p] for p in ("head-train", "validation"))
        learnt = MLPProbe.fit(x, names[rows], others[0], names_val, seed=seed)
        made["morphology"] = learnt.predict(seen["test"])
    return made


def baselines(bench: Bench) -> None:
    """What one seed is enough for: boosting, principal components, template redshifts."""
    total = fluxes(bench, slice(TOTAL, TOTAL + 1))
    bench.kept("g, r, z MLP, image", 0, partial(learned, bench, MLPProbe, total))
    for name, x in (("aperture", fluxes(bench, slice(None))), ("g, r, z", total)):
        bench.kept(f"{name} boosting, image", 0, partial(learned, bench, Boosting, x))
    for modality in ("image", "spectrum"):
        components = partial(bench.components, modality)
        x = bench.kept(f"principal components, {modality}", 0, components)
        bench.kept(f"PCA, {modality}", 0, partial(probed, bench, x, 0))
    bench.kept("template cross-correlation, spectrum", 0, bench.template_redshifts)


def fluxes(bench: Bench, apertures: slice) -> Vectors:
    """Magnitudes and colours in some apertures."""
    towers = Towers(bench.survey, bench.work / "seed-0", 0)
    seen = {part: NANOMAGGIES * np.sinh(towers.features(part).image) for part in SIZES}
    return {
        part: magnitudes_and_colours(rows.reshape(len(rows), 3, -1)[:, :, apertures])
        for part, rows in seen.items()
    }


def probed_fluxes(bench: Bench, seed: int, counts: Sequence[int]) -> None:
    """Probes of apertures, from all labels and from fewer."""
    x = fluxes(bench, slice(None))
    bench.kept("apertures, image", seed, partial(probed, bench, x, seed))
    for count in counts:
        some = partial(probed, bench, x, seed, count)
        bench.kept(f"apertures, image, {count} labels", seed, some)


def learned(bench: Bench, learner: type[Boosting] | type[MLPProbe], x: Vectors) -> Made:
    """Predictions of the properties and of the morphology, from all labels."""
    made: Made = {}
    for target, y in {"properties": bench.y, "morphology": bench.morphology}.items():
        known = x["head-train"], y["head-train"], x["validation"], y["validation"]
        made[target] = learner.fit(*known).predict(x["test"])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--only", choices=["baselines", "features", "stages", "supervised"])
    asked = parser.parse_args()
    bench = Bench(asked.survey, asked.work)
    if asked.only in (None, "baselines"):
        baselines(bench)
    for seed in asked.seeds:
        if asked.only in (None, "baselines"):
            probed_fluxes(bench, seed, asked.counts)
        if asked.only in (None, "features"):
            features(bench, seed, asked.counts)
        if asked.only in (None, "stages"):
            stages(bench, seed)
        if asked.only in (None, "supervised"):
            supervised(bench, seed, [*asked.counts, len(bench.rows["head-train"])])


if __name__ == "__main__":
    main()
