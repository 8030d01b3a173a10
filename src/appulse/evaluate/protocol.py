"""The protocol: every method, modality and target scored on the same test galaxies.

Learners fit on the head-train part, choose on validation, and are scored on test. Intervals are
95 %, by bootstrap over galaxies.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from ..metrics import (
    accuracy,
    balanced_accuracy,
    bias,
    bootstrap,
    fraction_within,
    macro_f1,
    nmad,
    outlier_fraction,
    r2,
)
from ..survey.survey import PROPERTIES
from ..tasks.targets import Targets
from .results import DRAWS, Columns, Modality, Result, known
from .retrieval import Matches, score_matches

Features = Shaped[np.ndarray, "_ *_"]
Score = Callable[[np.ndarray, np.ndarray], float]  # of predictions and truth

REDSHIFT_SCORES: dict[str, Score] = {
    "R²": r2,
    "NMAD": nmad,
    "bias": bias,
    "within .003": partial(fraction_within, limit=0.003),
    "outliers > .01": partial(outlier_fraction, limit=0.01),
    "outliers > .05": partial(outlier_fraction, limit=0.05),
    "outliers > .15": partial(outlier_fraction, limit=0.15),
}
PROPERTY_SCORES: dict[str, Score] = {"R²": r2}
CLASS_SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "balanced accuracy": balanced_accuracy,
    "macro F1": macro_f1,
}


@runtime_checkable
class Predictor(Protocol):
    """What has learned."""

    def predict(self, x: Any) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""


@runtime_checkable
class Learner(Protocol):
    """What learns from features: a probe, boosting, or a network on pixels."""

    def fit(self, x: Any, y: Any, x_val: Any, y_val: Any) -> Predictor:
        """Learns on x and y, chooses on x_val and y_val."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one method says of the test galaxies, by target, one entry per galaxy."""

    method: str
    modality: Modality
    values: Columns
    n_train: int
    baseline: bool = False
    seconds: float | None = None


def fit_predict(
    method: str,
    modality: Modality,
    learner: Learner,
    features: Mapping[str, Features],
    labels: Mapping[str, Columns],
    *,
    baseline: bool = False,
) -> Predictions:
    """Learns the properties that `labels` hold, jointly, and the morphology; predicts the test's.

    Args:
        method: Name in the tables.
        modality: What the features were made of.
        learner: `KNNProbe`, `MLPProbe`, `Boosting` or a `SupervisedLearner`.
        features: By part: "head-train", "validation", "test"; vectors, or pixels for networks.
        labels: Survey columns by part, at least "head-train" and "validation".
        baseline: Whether the method is one to beat.
    """
    start = time.process_time()
    values = _properties(learner, features, labels) | _morphology(learner, features, labels)
    seconds = time.process_time() - start
    return Predictions(method, modality, values, len(features["head-train"]), baseline, seconds)


def _properties(
    learner: Learner, features: Mapping[str, Features], labels: Mapping[str, Columns]
) -> dict[str, np.ndarray]:
    """Predictions of the properties that some galaxy of head-train and of validation has."""
    parts = [labels["head-train"], labels["validation"]]
    names = [n for n in PROPERTIES if all(n in part and known(part[n]).any() for part in parts)]
    if not names:
        return {}
    y, y_val = (np.stack([part[n] for n in names], axis=1) for part in parts)
    fitted = learner.fit(features["head-train"], y, features["validation"], y_val)
    return dict(zip(names, fitted.predict(features["test"]).T, strict=True))


def _morphology(
    learner: Learner, features: Mapping[str, Features], labels: Mapping[str, Columns]
) -> dict[str, np.ndarray]:
    """Predictions of the morphology, where there are labels."""
    if "morphology" not in labels["head-train"]:
        return {}
    data = []
    for part in ("head-train", "validation"):
        named = known(labels[part]["morphology"])
        data += [features[part][named], labels[part]["morphology"][named]]
    return {"morphology": learner.fit(*data).predict(features["test"])}


def evaluate(
    predictions: Sequence[Predictions],
    matches: Sequence[Matches],
    truth: Columns,
    *,
    seed: int = 0,
) -> list[Result]:
    """Scores everything against the test part's labels.

    Args:
        predictions: Of properties and classes.
        matches: For retrieval, both ways.
        truth: Labels of the test galaxies.
        seed: Of the pools and the bootstrap.
    """
    results = [r for p in predictions for r in score_predictions(p, truth, seed=seed)]
    return results + [r for m in matches for r in score_matches(m, truth, seed=seed)]


def score_predictions(predictions: Predictions, truth: Columns, *, seed: int = 0) -> list[Result]:
    """Every score of every target, over the galaxies whose truth is known."""
    results = []
    for target, predicted in predictions.values.items():
        rows = known(truth[target])
        if not known(predicted[rows]).all():
            raise ValueError(
                f"{predictions.method} gives no finite {target} for "
                f"{(~known(predicted[rows])).sum()} of {rows.sum()} galaxies; every test galaxy "
                "needs a prediction"
            )
        for metric, score in _scores(target).items():
            estimate = bootstrap(score, predicted[rows], truth[target][rows], n=DRAWS, seed=seed)
            results.append(
                Result(
                    predictions.method,
                    predictions.modality,
                    target,
                    metric,
                    *estimate,
                    n_train=predictions.n_train,
                    n_test=int(rows.sum()),
                    baseline=predictions.baseline,
                    seconds=predictions.seconds,
                )
            )
    return results


def _scores(target: str) -> dict[str, Score]:
    if target == "morphology":
        return CLASS_SCORES
    return REDSHIFT_SCORES if target == "redshift" else PROPERTY_SCORES
