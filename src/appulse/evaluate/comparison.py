"""Every method on the same galaxies: ours from embeddings, the baselines from pixels.

Shapes: B galaxies, D embedding, F features.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import euclidean_distances

from ..figures import learning_curves, predicted_against_true
from ..progress import track
from ..search.embeddings import Embeddings
from ..spectrum.redshift import CALIBRATION
from ..survey.photometry import aperture_fluxes, band_fluxes, filter_fluxes
from ..survey.store import SurveyStore
from ..survey.survey import Survey, label_columns
from ..tasks.probes import KNNProbe, MLPProbe
from ..training.run import read_metrics
from . import baselines
from .baselines import Boosting, PhotometryMatch, TemplateMatch
from .gallery import neighbour_gallery
from .protocol import Learner, Predictions, evaluate, fit_predict
from .report import Plot, property_panels
from .results import Columns, Modality, Result
from .retrieval import Matches, pool_rows

PARTS = ("head-train", "validation", "test")
COMPONENTS = 64
PCA_GALAXIES = 3000  # that the components are learned from
TOTAL = 6  # index of the aperture taken as total flux, 6″

Features = Mapping[str, Float[np.ndarray, "_ F"]]  # by part
Embedded = Mapping[str, tuple[Embeddings, Embeddings]]  # image and spectrum, by part


class Measured(NamedTuple):
    """What the baselines look at, one row a galaxy."""

    apertures: Float[np.ndarray, "B 3 A"]  # nanomaggies
    bands: Float[np.ndarray, "B N"]  # through filters and top-hats
    image: Float[np.ndarray, "B P"]
    spectrum: Float[np.ndarray, "B Q"]
    brightness: Float[np.ndarray, "B 1"]


def compare(store: SurveyStore, embedded: Embedded) -> tuple[list[Result], list[Plot]]:
    """Scores of every method on the test part, and pictures of ours.

    Raises:
        ValueError: If the embeddings are not the store's galaxies, or of several models.
    """
    _require_match(store, embedded)
    columns = label_columns(store.names)
    known = {part: labels_of(store, part) for part in PARTS}
    ours = from_embeddings(embedded, known)
    theirs, match = from_pixels(store, known)
    image, spectrum = embedded["test"]
    aligned = Matches(
        "appulse", image.vectors, spectrum.vectors, n_train=len(store.rows("encoder-train"))
    )
    results = [
        replace(result, column=columns.get(result.target, ""))
        for result in evaluate([*ours, *theirs], [aligned, match], known["test"])
    ]
    plots = [_scatter(p, known["test"]) for p in ours if p.method == "appulse, MLP probe"]
    return results, [*plots, *_galleries(store, image, spectrum)]


def labels_of(store: SurveyStore, part: str) -> Columns:
    """Labels of a part's galaxies by what they are of, whatever their columns are called."""
    columns = label_columns(store.names)
    values = store.columns(list(columns.values()), part)
    return {label: values[column] for label, column in columns.items()}


def _require_match(store: SurveyStore, embedded: Embedded) -> None:
    for part, pair in embedded.items():
        ids = store.columns(["targetid"], part)["targetid"]
        if not all(np.array_equal(embeddings.ids, ids) for embeddings in pair):
            raise ValueError(
                f"embeddings of part {part!r} are not those of the survey's {len(ids)} galaxies, "
                "in its order; run `appulse embed --survey` again"
            )
    hashes = {embeddings.model_hash for pair in embedded.values() for embeddings in pair}
    if len(hashes) > 1:
        raise ValueError(f"embeddings are of models {sorted(hashes)}; expected one for all parts")


def learning(runs: Mapping[str, Path]) -> Plot:
    """Learning curves of training runs, by title."""
    curves = {}
    for title, path in runs.items():
        lines = read_metrics(path)
        curves[title] = {
            name: ([m["step"] for m in lines if key in m], [m[key] for m in lines if key in m])
            for name, key in (("training loss", "loss"), ("validation loss", "validation_loss"))
        }
    return Plot("Learning curves", learning_curves(curves))


def _scatter(predictions: Predictions, truth: Columns) -> Plot:
    return Plot(
        f"Predicted against true, from {predictions.modality} embeddings",
        predicted_against_true(property_panels(predictions, truth)),
        "An MLP probe on frozen embeddings; shading is the logarithm of counts.",
    )


def _galleries(store: SurveyStore, image: Embeddings, spectrum: Embeddings) -> list[Plot]:
    """What the first few galaxies of the first pool find among it, both ways."""
    pool = pool_rows(len(image))[0]
    rows = store.rows("test")[pool]
    return [
        Plot(
            f"Nearest neighbours, {direction}",
            neighbour_gallery(
                direction,
                image.vectors[pool],
                spectrum.vectors[pool],
                lambda picked: store.read(rows[picked]),
                range(5),
            ),
            f"Among {len(pool):,} test galaxies; the true partner is framed.",
        )
        for direction in ("image → spectrum", "spectrum → image")
    ]


def from_embeddings(embedded: Embedded, known: Mapping[str, Columns]) -> list[Predictions]:
    """Probes of both modalities, and the redshift that spectra carry beside their embedding."""
    predictions = []
    modalities: tuple[Modality, ...] = ("image", "spectrum")
    for i, modality in enumerate(modalities):
        features = {part: embedded[part][i].vectors for part in PARTS}
        predictions += [
            fit_predict("appulse, k-NN", modality, KNNProbe, features, known),
            fit_predict("appulse, MLP probe", modality, MLPProbe, features, known),
        ]
    z = embedded["test"][1].columns["spectrum_redshift"]
    own = {"redshift": z} if "redshift" in known["test"] else {}
    name = "appulse, redshift coordinate"
    return [*predictions, Predictions(name, "spectrum", own, n_train=CALIBRATION)]


def from_pixels(
    store: SurveyStore, known: Mapping[str, Columns]
) -> tuple[list[Predictions], Matches]:
    """The baselines: predictions from either modality, and matching by synthetic photometry."""
    measured = {part: _measure(store, part) for part in ("encoder-train", *PARTS)}
    total, apertures = (_magnitudes(measured, s) for s in (slice(TOTAL, TOTAL + 1), slice(None)))
    inputs: tuple[tuple[str, Modality, Learner, Features], ...] = (
        ("g, r, z boosting", "image", Boosting, total),
        ("g, r, z MLP", "image", MLPProbe, total),
        ("aperture boosting", "image", Boosting, apertures),
        ("aperture MLP", "image", MLPProbe, apertures),
        ("PCA + k-NN", "image", KNNProbe, _scores(measured, "image")),
        ("PCA + k-NN", "spectrum", KNNProbe, _scores(measured, "spectrum")),
    )
    predictions = [
        fit_predict(name, modality, learner, features, known, baseline=True)
        for name, modality, learner, features in inputs
    ]
    if "redshift" in known["test"]:
        predictions.append(_template_redshifts(store))
    return predictions, _photometry_match(measured)


def _measure(store: SurveyStore, part: str) -> Measured:
    rows = len(store.rows(part))
    batches = [_measure_batch(s) for s in track(store.iter(part, 512), f"measure {part}", rows)]
    return Measured(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))


def _measure_batch(survey: Survey) -> Measured:
    return Measured(
        apertures=aperture_fluxes(survey.images),
        bands=np.concatenate([filter_fluxes(survey.spectra)[0], band_fluxes(survey.spectra)[0]], 1),
        image=baselines.image_pixels(survey.images.filled()),
        spectrum=baselines.spectrum_pixels(survey.spectra),
        brightness=baselines.brightness(survey.spectra),
    )


def _magnitudes(measured: Mapping[str, Measured], apertures: slice) -> Features:
    return {
        part: baselines.magnitudes_and_colours(m.apertures[:, :, apertures])
        for part, m in measured.items()
    }


def _scores(measured: Mapping[str, Measured], modality: Modality) -> Features:
    """Principal components of encoder-train; a spectrum's brightness, divided out, comes beside."""
    pixels = getattr(measured["encoder-train"], modality)[:PCA_GALAXIES]
    components = PCA(COMPONENTS, random_state=0, svd_solver="randomized").fit(pixels)
    scores = {part: components.transform(getattr(m, modality)) for part, m in measured.items()}
    if modality == "image":
        return scores
    like_the_first = scores["head-train"][:, 0].std() / measured["head-train"].brightness.std()
    return {
        part: np.hstack([scores[part], like_the_first * m.brightness])
        for part, m in measured.items()
    }


def _photometry_match(measured: Mapping[str, Measured]) -> Matches:
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


def _template_redshifts(store: SurveyStore) -> Predictions:
    start = time.process_time()
    column = label_columns(store.names)["redshift"]
    rows = store.rows("head-train", f"{column} IS NOT NULL")
    train = store.take(rows, ["spectra", column])
    match = TemplateMatch.fit(train["spectra"], train[column])
    z = np.concatenate([match.predict(s) for s in _spectra(store, "test")])
    seconds = time.process_time() - start
    name = "template cross-correlation"
    return Predictions(name, "spectrum", {"redshift": z}, len(rows), True, seconds)


def _spectra(store: SurveyStore, part: str) -> Iterator:
    for batch in store.batches(part, 512, fields=("spectra",), shuffle=False):
        yield batch["spectra"]
