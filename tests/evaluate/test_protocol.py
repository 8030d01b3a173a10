import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from appulse.evaluate.baselines import Boosting
from appulse.evaluate.protocol import Predictions, evaluate, fit_predict, score_predictions
from appulse.evaluate.retrieval import Matches
from appulse.tasks.probes import KNNProbe, MLPProbe


def by_name(results):
    return {(r.modality, r.target, r.metric): r for r in results}


@pytest.mark.parametrize("learner", [KNNProbe, MLPProbe, Boosting])
def test_every_learner_runs_through_the_protocol(learner, features, labels):
    predictions = fit_predict("mine", "image", learner, features, labels)
    assert list(predictions.values) == ["redshift", "age", "morphology"]
    assert predictions.n_train == 400
    assert predictions.seconds > 0
    found = by_name(score_predictions(predictions, labels["test"]))
    assert found["image", "redshift", "R²"].value > 0.95
    assert found["image", "age", "R²"].value > 0.8
    assert found["image", "morphology", "accuracy"].value > 0.9


def test_scores_are_sklearns_over_known_labels(features, labels):
    predictions = fit_predict("mine", "spectrum", KNNProbe, features, labels)
    found = by_name(score_predictions(predictions, labels["test"]))
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
    results = score_predictions(
        Predictions("m", "spectrum", {"redshift": shifted}, 0), labels["test"]
    )
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
        score_predictions(Predictions("m", "image", {"redshift": z}, 0), labels["test"])


def test_evaluate_is_the_sum_of_its_parts(labels):
    predictions = Predictions("m", "image", {"redshift": labels["test"]["redshift"]}, 400, True)
    vectors = np.random.default_rng(0).normal(size=(150, 8))
    results = evaluate([predictions], [Matches("n", vectors, vectors, 400)], labels["test"])
    assert {r.method for r in results if r.baseline} == {"m"}
    assert by_name(results)["image → spectrum", "partner", "top-1"].value == 1
