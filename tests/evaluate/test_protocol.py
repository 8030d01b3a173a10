import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from appulse.evaluate.baselines import Boosting
from appulse.evaluate.protocol import PHYSICS, Predictions, fit_predict, paired, score
from appulse.metrics import difference, r2
from appulse.tasks.probes import KNNProbe, MLPProbe


def by_name(results):
    return {(r.modality, r.target, r.metric): r for r in results}


@pytest.mark.parametrize("learner", [KNNProbe, MLPProbe, Boosting])
def test_every_learner_runs_through_the_protocol(learner, features, labels):
    predictions = fit_predict("mine", "image", learner, features, labels)
    assert list(predictions.values) == ["redshift", "age", "morphology"]
    assert predictions.n_train == 400
    assert predictions.seconds > 0
    found = by_name(score([predictions], labels["test"]))
    assert found["image", "redshift", "R²"].value > 0.95
    assert found["image", "age", "R²"].value > 0.8
    assert found["image", "morphology", "accuracy"].value > 0.9


def test_scores_are_sklearns_over_known_labels(features, labels):
    predictions = fit_predict("mine", "spectrum", KNNProbe, features, labels)
    found = by_name(score([predictions], labels["test"]))
    truth = labels["test"]
    known = np.isfinite(truth["age"])
    age = found["spectrum", "age", "R²"]
    assert age.value == pytest.approx(
        r2_score(truth["age"][known], predictions.values["age"][known])
    )
    assert (age.n_test, age.n_train) == (known.sum(), 400)
    named = truth["morphology"] != ""
    balanced = found["spectrum", "morphology", "balanced accuracy"]
    assert balanced.value == pytest.approx(
        balanced_accuracy_score(truth["morphology"][named], predictions.values["morphology"][named])
    )
    assert balanced.n_test == 145
    for result in found.values():
        assert result.low <= result.value <= result.high


def test_test_labels_are_never_seen(features, labels):
    """Without them the predictions are the same."""
    hidden = {part: labels[part] for part in ("head-train", "validation")}
    for learner in (KNNProbe, MLPProbe, Boosting):
        a, b = (fit_predict("m", "image", learner, features, given) for given in (labels, hidden))
        for target, values in a.values.items():
            np.testing.assert_array_equal(values, b.values[target])


def test_only_labelled_properties_are_learned(features, labels):
    bare = {part: {"redshift": c["redshift"]} for part, c in labels.items()}
    bare["validation"] = bare["validation"] | {"age": np.full(200, np.nan)}
    bare["head-train"] = bare["head-train"] | {"age": labels["head-train"]["age"]}
    assert list(fit_predict("m", "image", KNNProbe, features, bare).values) == ["redshift"]
    named = {part: {"morphology": c["morphology"]} for part, c in labels.items()}
    assert list(fit_predict("m", "image", KNNProbe, features, named).values) == ["morphology"]


def test_redshift_scores_by_hand(labels):
    z = labels["test"]["redshift"]
    shifted = z + 0.002 * (1 + z)
    shifted[:15] += 0.1 * (1 + z[:15])
    results = score([Predictions("m", "spectrum", {"redshift": shifted}, 0)], labels["test"])
    found = {r.metric: r.value for r in results}
    assert found["within .003"] == pytest.approx(0.9)
    assert found["outliers > .05"] == pytest.approx(0.1)
    assert found["outliers > .15"] == 0
    assert found["bias"] == pytest.approx(0.002)
    assert found["NMAD"] == pytest.approx(0, abs=1e-12)


def test_a_missing_prediction_is_refused(labels):
    z = labels["test"]["redshift"].copy()
    z[3] = np.nan
    with pytest.raises(ValueError, match="m gives no finite redshift for 1 of 150 galaxies"):
        score([Predictions("m", "image", {"redshift": z}, 0)], labels["test"])


def noisy(labels, seed, scale=0.05):
    z = labels["test"]["redshift"]
    noise = scale * np.random.default_rng(seed).normal(size=len(z))
    return Predictions("m", "image", {"redshift": z + noise}, 400, seed=seed)


def test_a_score_is_the_mean_over_seeds(labels):
    """With the spread over seeds beside, and the interval of the mean over galaxies."""
    seeds = [noisy(labels, seed) for seed in range(3)]
    found, *alone = (by_name(score(s, labels["test"])) for s in (seeds, *([s] for s in seeds)))
    key = ("image", "redshift", "R²")
    each = [a[key].value for a in alone]
    assert found[key].value == pytest.approx(np.mean(each))
    assert found[key].spread == pytest.approx(np.std(each))
    assert (found[key].seeds, alone[0][key].seeds, alone[0][key].spread) == (3, 1, 0)
    width = found[key].high - found[key].low
    assert 0 < width < np.mean([a[key].high - a[key].low for a in alone])


def test_the_mean_over_properties_is_of_galaxies_that_have_all():
    rng = np.random.default_rng(0)
    truth = {name: rng.normal(size=80) for name in PHYSICS}
    said = {name: values + 0.3 * rng.normal(size=80) for name, values in truth.items()}
    truth[PHYSICS[0]][:9] = np.nan
    found = by_name(score([Predictions("m", "image", said, 1)], truth))
    mean = found["image", "properties", "mean R²"]
    expected = np.mean([r2_score(truth[name][9:], said[name][9:]) for name in PHYSICS])
    assert mean.value == pytest.approx(expected)
    assert mean.n_test == 71


def test_densities_and_crps_need_no_truth():
    values = {"posterior": np.array([-1.0, -3.0, np.nan]), "age CRPS": np.array([0.2, 0.4, np.nan])}
    found = by_name(score([Predictions("m", "both", values, 1)], {"age": np.ones(3)}))
    assert found["both", "posterior", "NLL"].value == 2
    assert found["both", "age", "CRPS"].value == pytest.approx(0.3)
    assert found["both", "age", "CRPS"].n_test == 2


def test_a_paired_difference_is_the_metrics(labels):
    ours, theirs = noisy(labels, 0), noisy(labels, 1, scale=0.1)
    found = paired([ours], [theirs], labels["test"], "redshift", "R²")
    truth = labels["test"]["redshift"]
    both = (p.values["redshift"] for p in (ours, theirs))
    assert (found.value, found.low, found.high) == difference(r2, *both, truth, n=500)
    assert found.low > 0
    assert (found.metric, found.rival) == ("R², difference", "m")


@pytest.mark.parametrize("learner", [KNNProbe, MLPProbe, Boosting])
@pytest.mark.parametrize("part", ["head-train", "validation"])
def test_without_a_known_class_none_is_learned(learner, part, features, labels):
    bare = {p: {"morphology": c["morphology"].copy()} for p, c in labels.items()}
    bare[part]["morphology"][:] = ""
    assert fit_predict("m", "image", learner, features, bare).values == {}


def test_only_galaxies_with_labels_count(features, labels):
    z = labels["head-train"]["redshift"].copy()
    z[7:] = np.nan
    classes = np.full(400, "", dtype="U8")
    classes[3:20] = "spiral"
    known = labels | {"head-train": {"redshift": z, "morphology": classes}}
    for morphology in (True, False):  # the number of labels is that of the draw
        said = fit_predict("m", "image", KNNProbe, features, known, morphology=morphology)
        assert said.n_train == 20
        assert ("morphology" in said.values) == morphology
