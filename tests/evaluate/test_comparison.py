"""Embeddings are made up here: what they hold is known, so scores can be foretold."""

from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluate.comparison import (
    PARTS,
    compare,
    from_embeddings,
    from_pixels,
    labels_of,
    learning,
)
from appulse.evaluate.protocol import CLASS_SCORES, REDSHIFT_SCORES, score_predictions
from appulse.search.embeddings import Embeddings
from appulse.survey.survey import PROPERTIES
from appulse.tasks.targets import Scale

OURS = {
    ("appulse, k-NN", "image"),
    ("appulse, MLP probe", "image"),
    ("appulse, k-NN", "spectrum"),
    ("appulse, MLP probe", "spectrum"),
}
PIXELS = {
    ("g, r, z boosting", "image"),
    ("g, r, z MLP", "image"),
    ("aperture boosting", "image"),
    ("aperture MLP", "image"),
    ("PCA + k-NN", "image"),
    ("PCA + k-NN", "spectrum"),
}
RANKS = {"top-1", "top-5", "top-10", "median rank", "median rank of 30"}


@pytest.fixture(scope="module")
def known(store):
    return {part: labels_of(store, part) for part in PARTS}


@pytest.fixture(scope="module")
def embedded(store, known):
    """Vectors that hold the properties, the morphology and what tells a galaxy from others."""
    rng = np.random.default_rng(0)
    scale = Scale.of(np.stack([known["test"][name] for name in PROPERTIES], axis=1))
    parts = {}
    for part, columns in known.items():
        ids = store.columns(["targetid"], part)["targetid"]
        numbers = np.stack([columns[name] for name in PROPERTIES], axis=1)
        own = 0.3 * rng.normal(size=(len(ids), 6))
        kinds = columns["morphology"][:, None] == np.unique(known["test"]["morphology"])
        truth = np.hstack([scale.apply(numbers), 2.0 * kinds, own])
        image, spectrum = (
            (truth + 0.05 * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2)
        )
        z = columns["redshift"] + 1e-4 * rng.normal(size=len(ids))
        parts[part] = (
            Embeddings(ids, image, "image", "hash"),
            Embeddings(ids, spectrum, "spectrum", "hash", {"spectrum_redshift": z}),
        )
    return parts


@pytest.fixture(scope="module")
def compared(store, embedded):
    return compare(store, embedded)


@pytest.fixture(scope="module")
def scores(compared):
    results, _ = compared
    return {(r.method, r.modality, r.target, r.metric): r for r in results}


def test_every_method_gets_every_score(scores):
    expected = set()
    for method in OURS | PIXELS:
        for target in PROPERTIES:
            metrics = REDSHIFT_SCORES if target == "redshift" else ["R²"]
            expected |= {(*method, target, metric) for metric in metrics}
        expected |= {(*method, "morphology", metric) for metric in CLASS_SCORES}
    for method in ("appulse, redshift coordinate", "template cross-correlation"):
        expected |= {(method, "spectrum", "redshift", metric) for metric in REDSHIFT_SCORES}
    for method in ("appulse", "synthetic photometry"):
        for direction in ("image → spectrum", "spectrum → image"):
            expected |= {(method, direction, "partner", metric) for metric in RANKS}
            expected |= {(method, direction, name, "neighbours' R²") for name in PROPERTIES}
    assert set(scores) == expected


def test_results_say_what_they_were_made_of(scores, store):
    baselines = {r.method for r in scores.values() if r.baseline}
    assert baselines == {"synthetic photometry", "template cross-correlation"} | {
        method for method, _ in PIXELS
    }
    rows = {part: len(store.rows(part)) for part in ("encoder-train", *PARTS)}
    for result in scores.values():
        assert result.low <= result.value <= result.high or result.metric == "median rank"
        if "→" in result.modality:
            assert result.n_test == 3 * (rows["test"] // 3)
            assert result.n_train == rows["encoder-train"]
        else:
            assert result.n_test == rows["test"]
            assert result.n_train in (rows["head-train"], 20)


def test_results_name_the_columns_of_their_labels(scores):
    for (_, _, target, _), result in scores.items():
        assert result.column == ("" if target == "partner" else f"{target}_catalogue")


def test_what_the_vectors_hold_is_found(scores):
    for method, modality in OURS:
        for target in PROPERTIES:  # neighbours are few in so many dimensions
            assert scores[method, modality, target, "R²"].value > (0.9 if "MLP" in method else 0.4)
        assert scores[method, modality, "morphology", "accuracy"].value > 0.9
    for direction in ("image → spectrum", "spectrum → image"):
        assert scores["appulse", direction, "partner", "top-1"].value > 0.95
        assert scores["appulse", direction, "age", "neighbours' R²"].value > 0.6
    own = "appulse, redshift coordinate", "spectrum", "redshift"
    assert scores[*own, "NMAD"].value < 2e-4
    assert scores[*own, "within .003"].value == 1


def test_baselines_are_no_straw_men(scores):
    """What is known of such galaxies: brightness tells mass, templates tell the redshift."""
    assert scores["aperture boosting", "image", "redshift", "R²"].value > 0.3
    assert scores["aperture boosting", "image", "log_mstar", "R²"].value > 0.2
    assert scores["PCA + k-NN", "image", "redshift", "R²"].value > 0
    assert scores["PCA + k-NN", "spectrum", "redshift", "R²"].value > 0
    template = "template cross-correlation", "spectrum", "redshift"
    assert scores[*template, "within .003"].value > 0.85
    for direction in ("image → spectrum", "spectrum → image"):
        matched = scores["synthetic photometry", direction, "partner", "median rank"]
        assert matched.value < 5  # chance is half of a pool, 22


def test_embeddings_of_shuffled_galaxies_are_worthless(embedded, known):
    """Learned from wrong labels, probes know nothing: no label leaks past the vectors.

    Galaxies come in few kinds, so one shuffle may be lucky.
    """
    scores = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wrong = dict(embedded)
        for part in ("head-train", "validation"):
            order = rng.permutation(len(known[part]["redshift"]))
            wrong[part] = tuple(replace(e, vectors=e.vectors[order]) for e in embedded[part])
        for predictions in from_embeddings(wrong, known)[:-1]:
            for result in score_predictions(predictions, known["test"]):
                if result.metric == "R²":
                    key = result.method, result.modality, result.target
                    scores.setdefault(key, []).append(result.value)
    for values in scores.values():
        assert np.mean(values) < 0.1


def test_baselines_see_neither_embeddings_nor_the_labels_of_test_galaxies(store, known, scores):
    hidden = known | {"test": {name: column[:0] for name, column in known["test"].items()}}
    predictions, match = from_pixels(store, hidden)
    for p in predictions:
        for result in score_predictions(p, known["test"]):
            key = (result.method, result.modality, result.target, result.metric)
            assert result.value == pytest.approx(scores[key].value, abs=1e-6)
    assert match.image.shape == match.spectrum.shape == (len(known["test"]["redshift"]), 24)


def test_the_pictures_are_ours(compared):
    _, plots = compared
    assert [plot.title for plot in plots] == [
        "Predicted against true, from image embeddings",
        "Predicted against true, from spectrum embeddings",
        "Nearest neighbours, image → spectrum",
        "Nearest neighbours, spectrum → image",
    ]


def test_embeddings_of_other_galaxies_are_refused(store, embedded):
    image, spectrum = embedded["test"]
    order = np.arange(len(image))[::-1]
    turned = replace(image, ids=image.ids[order], vectors=image.vectors[order])
    fewer = replace(spectrum, ids=spectrum.ids[1:], vectors=spectrum.vectors[1:], columns={})
    for pair in ((turned, spectrum), (image, fewer)):
        with pytest.raises(ValueError, match="part 'test' are not those of the survey's"):
            compare(store, embedded | {"test": pair})
    with pytest.raises(ValueError, match=r"of models \['hash', 'other'\]; expected one"):
        compare(store, embedded | {"test": (image, replace(spectrum, model_hash="other"))})


def test_learning_curves_are_those_of_the_runs(run):
    plot = learning({"spectra": run.spectrum, "both": run.align})
    first, second = plot.figure.axes
    assert (first.get_title(), second.get_title()) == ("spectra", "both")
    for axes, steps in ((first, 20), (second, 80)):
        training, validation = axes.get_lines()
        assert training.get_label() == "training loss"
        assert training.get_xdata()[-1] == validation.get_xdata()[-1] == steps
