"""Which methods there are: ours from embeddings, and quick baselines from pixels."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from ..search.embeddings import REDSHIFT
from ..spectrum.redshift import CALIBRATION
from ..survey.survey import label_columns
from ..tasks.probes import KNNProbe, MLPProbe, RidgeProbe
from .baselines import Boosting, PhotometryMatch, TemplateMatch
from .measured import BATCH, TOTAL, Features, Measured, component_scores, magnitudes
from .protocol import Learner, Predictions, fit_predict
from .results import Modality
from .retrieval import Matches, rank
from .rows import Method
from .study import Study, fewer

TEMPLATE_GALAXIES = 6_000  # that templates are stacked from
MODALITIES: tuple[Modality, ...] = ("image", "spectrum")


@dataclass(frozen=True)
class SeededMLP:
    """An MLP probe that starts from a seed."""

    seed: int

    def fit(self, x: Any, y: Any, x_val: Any, y_val: Any) -> MLPProbe:
        """As `MLPProbe.fit`."""
        return MLPProbe.fit(x, y, x_val, y_val, self.seed)


PROBES: dict[str, Callable[[int], Learner]] = {
    "k-NN": lambda seed: KNNProbe,
    "ridge": lambda seed: RidgeProbe,
    "MLP probe": SeededMLP,
}


def methods(study: Study) -> list[Method]:
    """Ours and the baselines that need minutes."""
    return [*from_embeddings(study), *from_pixels(study)]


def from_embeddings(study: Study) -> list[Method]:
    """Probes of all that is said of either modality, the redshifts of spectra, and retrieval."""
    model, probes = {"model": study.model_hash}, []
    for modality in MODALITIES:
        probes += probed(study, "appulse", modality, study.features(modality), model)
        coordinates = study.coordinates(modality)
        if coordinates["test"].shape[1]:
            probes += probed(study, "appulse coordinates", modality, coordinates, model)
    structure = study.structure()
    if structure["test"].shape[1]:
        probes += probed(study, "appulse structure", "image", structure, model)
    alone = [Method("appulse retrieval", lambda seed: _retrieval(study), model)]
    test = study.embedded["test"][1]
    if REDSHIFT in test.columns and "redshift" in study.labels["test"]:
        run = partial(_coordinate, study)
        alone.append(Method("appulse redshift coordinate", run, model))
    return [*probes, *alone]


def probed(
    study: Study,
    name: str,
    modality: Modality,
    vectors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    *,
    baseline: bool = False,
) -> list[Method]:
    """k-NN, a ridge and an MLP on frozen vectors, from all labels and from fewer."""
    return [
        Method(
            f"{name} {probe} {modality} {count or 'all'}",
            partial(_probe, study, f"{name}, {probe}", modality, vectors, baseline, count, probe),
            {**config, "labels": count},
            seeds[:1] if probe != "MLP probe" and count is None else seeds,  # no chance in it
        )
        for count, seeds in study.training_sizes
        for probe in PROBES
    ]


def _probe(
    study: Study,
    name: str,
    modality: Modality,
    vectors: Mapping[str, np.ndarray],
    baseline: bool,
    count: int | None,
    probe: str,
    seed: int,
) -> list[Predictions]:
    some, learner = study.chosen(count, seed), PROBES[probe](seed)
    x, y = fewer(vectors, some), fewer(study.labels, some)
    return [fit_predict(name, modality, learner, x, y, baseline=baseline, seed=seed)]


def _retrieval(study: Study) -> list[Predictions]:
    image, spectrum = study.embedded["test"]
    n_train = len(study.sample.rows("encoder-train"))
    matches = Matches("appulse", image.vectors, spectrum.vectors, n_train)
    return rank(matches, study.labels["test"])


def _coordinate(study: Study, seed: int) -> list[Predictions]:
    z = study.embedded["test"][1].columns[REDSHIFT]
    name = "appulse, redshift coordinate"
    return [Predictions(name, "spectrum", {"redshift": z}, CALIBRATION, seed=seed)]


def from_pixels(study: Study) -> list[Method]:
    """The baselines: predictions from either modality, and matching by synthetic photometry."""

    def boosted(apertures: slice) -> Callable[[], Features]:
        return lambda: magnitudes(study.measured, apertures)

    total, every = boosted(slice(TOTAL, TOTAL + 1)), boosted(slice(None))
    inputs: tuple[tuple[str, Modality, str, Callable[[], Features]], ...] = (
        ("g, r, z boosting", "image", "boosting", total),
        ("g, r, z MLP", "image", "MLP probe", total),
        ("aperture boosting", "image", "boosting", every),
        ("aperture MLP", "image", "MLP probe", every),
        ("PCA + k-NN", "image", "k-NN", lambda: component_scores(study.measured, "image")),
        ("PCA + k-NN", "spectrum", "k-NN", lambda: component_scores(study.measured, "spectrum")),
    )
    made = [
        Method(
            f"{name} {modality}",
            partial(_baseline, study, name, modality, learner, features),
            seeds=study.seeds if learner == "MLP probe" else study.seeds[:1],
        )
        for name, modality, learner, features in inputs
    ]
    made.append(
        Method(
            "synthetic photometry",
            lambda seed: rank(photometry_match(study.measured), study.labels["test"]),
        )
    )
    if "redshift" in study.labels["test"]:
        made.append(Method("template cross-correlation", lambda seed: [_templates(study)]))
    return made


def _baseline(
    study: Study,
    name: str,
    modality: Modality,
    kind: str,
    features: Callable[[], Features],
    seed: int,
) -> Sequence[Predictions]:
    learner = Boosting if kind == "boosting" else PROBES[kind](seed)
    x = features()
    return [fit_predict(name, modality, learner, x, study.labels, baseline=True, seed=seed)]


def photometry_match(measured: Mapping[str, Measured]) -> Matches:
    """Test images and spectra as synthetic photometry compares them."""
    flat = {part: m.apertures.reshape(len(m.apertures), -1) for part, m in measured.items()}
    bands = {part: m.bands for part, m in measured.items()}
    match = PhotometryMatch.fit(
        flat["encoder-train"], bands["encoder-train"], flat["validation"], bands["validation"]
    )
    return Matches(
        "synthetic photometry",
        match.image_vectors(flat["test"]),
        match.spectrum_vectors(bands["test"]),
        n_train=len(flat["encoder-train"]),
        baseline=True,
        similarity=lambda a, b: -euclidean_distances(a, b),
    )


def _templates(study: Study) -> Predictions:
    """Templates of spectra of head-train, at most `TEMPLATE_GALAXIES` at random, on test's."""
    start = time.process_time()
    store, column = study.sample.store, label_columns(study.sample.store.names)["redshift"]
    labelled = np.isfinite(study.labels["head-train"]["redshift"])
    rows = study.sample.rows("head-train")[labelled]
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:TEMPLATE_GALAXIES])
    train = store.take(rows, ["spectra", column])
    match = TemplateMatch.fit(train["spectra"], train[column])
    test = study.sample.rows("test")
    some = (test[i : i + BATCH] for i in range(0, len(test), BATCH))
    z = np.concatenate([match.predict(store.take(r, ["spectra"])["spectra"]) for r in some])
    name, seconds = "template cross-correlation", time.process_time() - start
    return Predictions(name, "spectrum", {"redshift": z}, len(rows), True, seconds)
