"""Embeddings are made up here: what they hold is known, so scores can be foretold."""

from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluate import comparison
from appulse.evaluate.comparison import from_embeddings, from_pixels, methods
from appulse.evaluate.protocol import CLASS_SCORES, RANK_SCORES, REDSHIFT_SCORES, score
from appulse.evaluate.sample import PARTS, Sample
from appulse.evaluate.scores import grouped, score_all
from appulse.evaluate.study import Study
from appulse.search.embeddings import COORDINATE, STRUCTURE, named
from appulse.survey.survey import PROPERTIES

OURS = {
    ("appulse, k-NN", "image"),
    ("appulse, ridge", "image"),
    ("appulse, MLP probe", "image"),
    ("appulse, k-NN", "spectrum"),
    ("appulse, ridge", "spectrum"),
    ("appulse, MLP probe", "spectrum"),
}
FLUXES = {
    (f"{what}, {learner}", "image")
    for what in ("g, r, z", "apertures")
    for learner in comparison.LEARNERS
}
PIXELS = FLUXES | {
    (f"PCA, {probe}", modality) for probe in comparison.PROBES for modality in comparison.MODALITIES
}
CHANCE = {"synthetic photometry", "template cross-correlation"}  # beside MLPs
RANKS = {*RANK_SCORES, "median rank of 30"}


def said_by(asked):
    """Predictions of methods with each of their seeds."""
    return [p for method in asked for seed in method.seeds for p in method.run(seed)]


@pytest.fixture(scope="module")
def scores(study):
    results = score_all(grouped(said_by(methods(study))), study.sample)
    return {(r.method, r.modality, r.target, r.metric): r for r in results if not r.rival}


def test_every_method_gets_every_score(scores):
    expected = set()
    for method in OURS | PIXELS:
        for target in PROPERTIES:
            metrics = REDSHIFT_SCORES if target == "redshift" else ["R²"]
            expected |= {(*method, target, metric) for metric in metrics}
        expected |= {(*method, "morphology", metric) for metric in CLASS_SCORES}
        expected.add((*method, "properties", "mean R²"))
    for method in ("appulse, redshift coordinate", "template cross-correlation"):
        expected |= {(method, "spectrum", "redshift", metric) for metric in REDSHIFT_SCORES}
    for method in ("appulse", "synthetic photometry"):
        for direction in ("image → spectrum", "spectrum → image"):
            expected |= {(method, direction, "partner", metric) for metric in RANKS}
            expected |= {(method, direction, name, "neighbours' R²") for name in PROPERTIES}
    assert set(scores) == expected


def test_results_say_what_they_were_made_of(scores, store):
    baselines = {r.method for r in scores.values() if r.baseline}
    assert baselines == CHANCE | {method for method, _ in PIXELS}
    rows = {part: len(store.rows(part)) for part in ("encoder-train", *PARTS)}
    for result in scores.values():
        assert result.low <= result.value <= result.high or "rank" in result.metric
        assert result.seeds == (2 if "MLP" in result.method or result.method in CHANCE else 1)
        if "→" in result.modality:
            assert result.n_test == 3 * (rows["test"] // 3)
            assert result.n_train == rows["encoder-train"]
        else:
            assert result.n_test == rows["test"]
            assert result.n_train in (rows["head-train"], 20)


def test_results_name_the_columns_of_their_labels(scores):
    for (_, _, target, _), result in scores.items():
        whole = target in ("partner", "properties")
        assert result.column == ("" if whole else f"{target}_catalogue")


def test_what_the_vectors_hold_is_found(scores):
    for method, modality in OURS:
        for target in PROPERTIES:  # neighbours are few in so many dimensions
            assert scores[method, modality, target, "R²"].value > (0.9 if "MLP" in method else 0.4)
        assert scores[method, modality, "morphology", "accuracy"].value > 0.9
    for direction in ("image → spectrum", "spectrum → image"):
        assert scores["appulse", direction, "partner", "top-1"].value > 0.95
        assert scores["appulse", direction, "age", "neighbours' R²"].value > 0.5
    own = "appulse, redshift coordinate", "spectrum", "redshift"
    assert scores[*own, "NMAD"].value < 2e-4
    assert scores[*own, "within .003"].value == 1


def test_baselines_are_no_straw_men(scores):
    """What is known of such galaxies: brightness tells mass, templates tell the redshift."""
    assert scores["apertures, boosting", "image", "redshift", "R²"].value > 0.3
    assert scores["apertures, boosting", "image", "log_mstar", "R²"].value > 0.2
    assert scores["PCA, k-NN", "image", "redshift", "R²"].value > 0
    assert scores["PCA, k-NN", "spectrum", "redshift", "R²"].value > 0
    template = "template cross-correlation", "spectrum", "redshift"
    assert scores[*template, "within .003"].value > 0.8
    for direction in ("image → spectrum", "spectrum → image"):
        matched = scores["synthetic photometry", direction, "partner", "median rank"]
        assert matched.value < 5  # chance is half of a pool, 22


def test_embeddings_of_shuffled_galaxies_are_worthless(study):
    """Learned from wrong labels, probes know nothing: no label leaks past the vectors.

    Galaxies come in few kinds, so one shuffle may be lucky.
    """
    scores = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wrong = dict(study.embedded)
        for part in ("head-train", "validation"):
            order = rng.permutation(len(study.labels[part]["redshift"]))
            wrong[part] = tuple(replace(e, vectors=e.vectors[order]) for e in wrong[part])
        for predictions in said_by(from_embeddings(replace(study, embedded=wrong)))[:-3]:
            for result in score([predictions], study.labels["test"]):
                if result.metric == "R²":
                    key = result.method, result.modality, result.target
                    scores.setdefault(key, []).append(result.value)
    assert len(scores) == len(OURS) * len(PROPERTIES)
    for values in scores.values():
        assert np.mean(values) < 0.1


def test_baselines_see_neither_embeddings_nor_the_labels_of_test_galaxies(study, scores):
    hidden = Sample(study.sample.store, study.sample.kept)
    hidden.__dict__["labels"] = study.labels | {
        "test": {n: np.full_like(v, np.nan) if v.dtype.kind == "f" else v
                 for n, v in study.labels["test"].items()}
    }  # fmt: skip
    blind = Study(hidden, {}, study.work, [0])
    blind.__dict__["measured"] = study.measured
    for p in said_by(m for m in from_pixels(blind) if m.name != "synthetic photometry"):
        for result in score([p], study.labels["test"]):
            key = (result.method, result.modality, result.target, result.metric)
            if scores[key].seeds == 1:
                assert result.value == pytest.approx(scores[key].value, abs=1e-6)


def test_fewer_labels_are_chosen_by_the_seed(study):
    """From 40 labels as from all, but with every seed, and other galaxies for each."""
    few = replace(study, counts=(40, 10_000))
    assert few.training_sizes == [(None, study.seeds), (40, study.seeds)]
    first, second = few.chosen(40, 0), few.chosen(40, 1)
    assert len(first) == len(set(first)) == 40
    assert set(first) != set(second)
    said = said_by(m for m in from_embeddings(few) if m.name == "appulse k-NN image 40")
    assert [(p.n_train, p.seed) for p in said] == [(40, 0), (40, 1)]
    assert not np.array_equal(*(p.values["redshift"] for p in said))


def test_baselines_learn_from_fewer_labels_too(study):
    """The honest rival where labels are few is no network."""
    few = replace(study, counts=(40,))
    asked = [m for m in from_pixels(few) if m.name.startswith("apertures")]
    said = [p for p in said_by(asked) if p.n_train == 40]
    assert {p.method for p in said} == {f"apertures, {name}" for name in comparison.LEARNERS}
    assert {p.seed for p in said} == set(study.seeds)


def test_labels_are_counted_not_rows(study):
    """One galaxy in ten has some label: draws are of those, and as before where all have one."""
    rows, rng = len(study.sample.rows("head-train")), np.random.default_rng(5)
    every = replace(study, counts=(40,))
    before = np.sort(np.random.default_rng(7).permutation(rows)[:40])
    np.testing.assert_array_equal(every.chosen(40, 7), before)
    columns = study.labels["head-train"]
    unknown = rng.random(rows) > 0.1
    bare = {n: np.where(unknown, "" if v.dtype.kind == "U" else np.nan, v)
            for n, v in columns.items()}  # fmt: skip
    bare["morphology"][np.flatnonzero(unknown)[0]] = "spiral"
    few = Study(Sample(study.sample.store, study.sample.kept), study.embedded, study.work)
    few.sample.__dict__["labels"] = study.labels | {"head-train": bare}
    there = (~unknown).sum() + 1
    few = replace(few, counts=(4, int(there)))
    assert [count for count, _ in few.training_sizes] == [None, 4]
    drawn = np.concatenate([few.chosen(4, seed) for seed in range(30)])
    assert set(drawn) <= {*np.flatnonzero(~unknown), np.flatnonzero(unknown)[0]}
    said = said_by(m for m in from_embeddings(few) if m.name.startswith("appulse ridge image"))
    assert {p.n_train for p in said} == {4, there}


def test_templates_are_stacked_from_so_many_spectra_at_most(study, monkeypatch):
    taken, fit = [], comparison.TemplateMatch.fit
    monkeypatch.setattr(
        comparison.TemplateMatch,
        "fit",
        lambda spectra, z, seed: taken.append(spectra.ids) or fit(spectra, z, seed),
    )
    (every,) = comparison._templates(study, 0)
    monkeypatch.setattr(comparison, "TEMPLATE_GALAXIES", 50)
    (some,) = comparison._templates(study, 1)
    ids = study.sample.store.columns(["targetid"], "head-train")["targetid"]
    assert taken[0].tolist() == ids.tolist()
    assert set(taken[1]) < set(ids)
    assert (every.n_train, some.n_train, len(taken[1])) == (len(ids), 50, 50)


def test_ours_is_compared_with_the_best_baseline(study):
    """Ours by a rule that knows no scores."""
    results = score_all(grouped(said_by(methods(study))), study.sample)
    ahead = {(r.modality, r.target, r.metric): r for r in results if r.rival}
    assert len(ahead) == len(comparison.MODALITIES) + 3
    best = ahead["image", "redshift", "R², difference"]
    by_method = {r.method: r.value for r in results
                 if (r.modality, r.target, r.metric) == ("image", "redshift", "R²")
                 and not r.rival}  # fmt: skip
    assert best.value == pytest.approx(by_method[best.method] - by_method[best.rival])
    assert best.method == "appulse, MLP probe"
    assert ahead["spectrum", "redshift", "within .003, difference"].method == (
        "appulse, redshift coordinate"
    )
    assert by_method[best.rival] == max(v for m, v in by_method.items() if "appulse" not in m)


def test_embeddings_of_other_galaxies_are_refused(study):
    image, spectrum = study.embedded["test"]
    order = np.arange(len(image))[::-1]
    turned = replace(image, ids=image.ids[order], vectors=image.vectors[order])
    fewer = replace(spectrum, ids=spectrum.ids[1:], vectors=spectrum.vectors[1:], columns={})
    for pair in ((turned, spectrum), (image, fewer)):
        with pytest.raises(ValueError, match="part 'test' are not those of the survey's"):
            study.sample.choose({**study.embedded, "test": pair})
    other = (image, replace(spectrum, model_hash="other"))
    with pytest.raises(ValueError, match=r"of models \['hash', 'other'\]; expected one"):
        study.sample.choose({**study.embedded, "test": other})


def test_structure_has_probes_of_its_own(study):
    """It names the class, on a scale of its own; vectors say nothing of it."""
    rng, embedded = np.random.default_rng(4), {}
    kinds = np.unique(study.labels["head-train"]["morphology"])
    for part, (image, spectrum) in study.embedded.items():
        told = study.labels[part]["morphology"][:, None] == kinds
        noise = rng.normal(size=image.vectors.shape).astype(np.float32)
        columns = named(STRUCTURE, 1000 * told.astype(np.float32))
        embedded[part] = replace(image, vectors=noise, columns=columns), spectrum
    asked = replace(study, embedded=embedded)
    np.testing.assert_allclose(asked.structure()["head-train"].std(axis=0), 1, rtol=1e-5)
    probes = [m for m in from_embeddings(asked) if m.name.endswith("MLP probe image all")]
    scores = score_all(grouped(said_by(probes)), asked.sample)
    found = {r.method: r.value for r in scores if r.metric == "accuracy" and not r.rival}
    assert found["appulse structure, MLP probe"] > 0.95
    assert found["appulse, MLP probe"] < 0.6
    names = {method.name for method in from_embeddings(study)}
    assert not any("structure" in name for name in names)


def test_coordinates_count_as_much_as_the_embedding(study):
    rng, embedded = np.random.default_rng(3), {}
    for part, pair in study.embedded.items():
        sizes = np.array([5.0, 0.1])
        columns = named(COORDINATE, sizes * rng.normal(size=(len(pair[0]), 2)))
        embedded[part] = tuple(replace(e, columns={**e.columns, **columns}) for e in pair)
    measured = replace(study, embedded=embedded)
    found = measured.coordinates("image")["test"]
    np.testing.assert_allclose(found.std(axis=0), sizes, rtol=0.3)
    parts = measured.features("image")
    np.testing.assert_allclose(parts["head-train"][:, -2:].std(axis=0), 1)
    features = parts["test"]
    np.testing.assert_allclose(np.corrcoef(features[:, -1], found[:, 1])[0, 1], 1)
    assert features.shape[1] == measured.vectors("image")["test"].shape[1] + 2
    assert study.coordinates("image")["test"].shape == (len(embedded["test"][0]), 0)
    names = {method.name for method in from_embeddings(measured)}
    assert "appulse coordinates k-NN image all" in names
    assert not any("coordinates k-NN" in method.name for method in from_embeddings(study))
