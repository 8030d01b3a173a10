"""Which methods there are: ours from embeddings, and quick baselines from pixels."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

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


LEARNERS: dict[str, Callable[[int], Learner]] = {
    "k-NN": lambda seed: KNNProbe,
    "ridge": lambda seed: RidgeProbe,
    "MLP probe": SeededMLP,
    "boosting": lambda seed: Boosting,
}
PROBES = ("k-NN", "ridge", "MLP probe")
CHANCE = {"MLP probe"}  # learners that a seed changes


def methods(study: Study) -> list[Method]:
    """Ours and the baselines that need minutes."""
    return [*from_embeddings(study), *from_pixels(study)]


def from_embeddings(study: Study) -> list[Method]:
    """Probes of all that is said of either modality, the redshifts of spectra, and retrieval."""
    model, probes = {"model": study.model_hash}, []
    for modality in MODALITIES:
        features = partial(study.features, modality)
        probes += probed(study, "appulse", modality, features, model)
        if study.coordinates(modality)["test"].shape[1]:
            alone = partial(study.coordinates, modality)
            probes += probed(study, "appulse coordinates", modality, alone, model)
    if study.structure()["test"].shape[1]:
        probes += probed(study, "appulse structure", "image", study.structure, model)
    others = [Method("appulse retrieval", lambda seed: _retrieval(study), model)]
    test = study.embedded["test"][1]
    if REDSHIFT in test.columns and "redshift" in study.labels["test"]:
        run = partial(_coordinate, study)
        others.append(Method("appulse redshift coordinate", run, model))
    return [*probes, *others]


def probed(
    study: Study,
    name: str,
    modality: Modality,
    features: Callable[[], Features],
    config: Mapping[str, Any],
    *,
    learners: Sequence[str] = PROBES,
    baseline: bool = False,
) -> list[Method]:
    """Some of `LEARNERS` on what a galaxy is told by, from all labels and from fewer."""
    return [
        Method(
            f"{name} {learner} {modality} {count or 'all'}",
            partial(_probe, study, f"{name}, {learner}", modality, features, baseline, count),
            {**config, "labels": count},
            seeds if learner in CHANCE or count else seeds[:1],
        )
        for count, seeds in study.training_sizes
        for learner in learners
    ]


def _probe(
    study: Study,
    name: str,
    modality: Modality,
    features: Callable[[], Features],
    baseline: bool,
    count: int | None,
    seed: int,
) -> list[Predictions]:
    some, learner = study.chosen(count, seed), LEARNERS[name.rpartition(", ")[2]](seed)
    x, y = fewer(features(), some), fewer(study.labels, some)
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

    def fluxes(apertures: slice) -> Callable[[], Features]:
        return lambda: magnitudes(study.measured, apertures)

    made = _fluxes(study, "apertures", fluxes(slice(None)))
    once = replace(study, counts=())
    made += _fluxes(once, "g, r, z", fluxes(slice(TOTAL, TOTAL + 1)))
    for modality in MODALITIES:
        components = lru_cache(partial(_components, study, modality))
        made += probed(once, "PCA", modality, components, {}, baseline=True)
    made.append(Method("synthetic photometry", partial(_photometry, study), {}, study.seeds))
    if "redshift" in study.labels["test"]:
        run = partial(_templates, study)
        made.append(Method("template cross-correlation", run, {}, study.seeds))
    return made


def _fluxes(study: Study, name: str, features: Callable[[], Features]) -> list[Method]:
    learners = (*PROBES, "boosting")
    return probed(study, name, "image", features, {}, learners=learners, baseline=True)


def _components(study: Study, modality: Modality) -> Features:
    pixels = {part: getattr(m, modality) for part, m in study.measured.items()}
    brightness = {part: m.brightness for part, m in study.measured.items()}
    return component_scores(pixels, brightness if modality == "spectrum" else None)


def _photometry(study: Study, seed: int) -> list[Predictions]:
    return rank(photometry_match(study.measured, seed), study.labels["test"])


def photometry_match(measured: Mapping[str, Measured], seed: int = 0) -> Matches:
    """Test images and spectra as synthetic photometry compares them."""
    flat = {part: m.apertures.reshape(len(m.apertures), -1) for part, m in measured.items()}
    bands = {part: m.bands for part, m in measured.items()}
    match = PhotometryMatch.fit(
        flat["encoder-train"], bands["encoder-train"], flat["validation"], bands["validation"], seed
    )
    return Matches(
        "synthetic photometry",
        match.image_vectors(flat["test"]),
        match.spectrum_vectors(bands["test"]),
        n_train=len(flat["encoder-train"]),
        baseline=True,
        similarity=match.similarity,
        seed=seed,
    )


def _templates(study: Study, seed: int) -> list[Predictions]:
    """Templates of spectra of head-train, at most `TEMPLATE_GALAXIES` at random, on test's."""
    start = time.process_time()
    store, column = study.sample.store, label_columns(study.sample.store.names)["redshift"]
    labelled = np.isfinite(study.labels["head-train"]["redshift"])
    rows = study.sample.rows("head-train")[labelled]
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:TEMPLATE_GALAXIES])
    train = store.take(rows, ["spectra", column])
    match = TemplateMatch.fit(train["spectra"], train[column], seed)
    test = study.sample.rows("test")
    some = (test[i : i + BATCH] for i in range(0, len(test), BATCH))
    z = np.concatenate([match.predict(store.take(r, ["spectra"])["spectra"]) for r in some])
    name, seconds = "template cross-correlation", time.process_time() - start
    return [Predictions(name, "spectrum", {"redshift": z}, len(rows), True, seconds, seed)]
