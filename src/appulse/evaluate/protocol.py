"""The protocol: every method, modality and target scored on the same test galaxies.

Learners fit on the head-train part, choose on validation, and are scored on test. A score is the
mean over seeds; intervals are 95 %, by bootstrap over galaxies.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from ..metrics import (
    accuracy,
    balanced_accuracy,
    bias,
    bootstrap,
    difference,
    fraction_within,
    macro_f1,
    mean_r2,
    nmad,
    outlier_fraction,
    r2,
    recall_at_k,
)
from ..survey.survey import PROPERTIES
from ..tasks.targets import Targets
from .results import DIFFERENCE, DRAWS, Columns, Modality, Result, known, labelled

Features = Shaped[np.ndarray, "_ *_"]
Score = Callable[[np.ndarray, np.ndarray], float]  # of predictions and truth

PHYSICS = tuple(name for name in PROPERTIES if name != "redshift")
CRPS = " CRPS"  # ends the names of values that are the scores of a property's posterior
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
RANK_SCORES: dict[str, Score] = {
    "top-1": lambda ranks, _: recall_at_k(ranks, 1),
    "top-5": lambda ranks, _: recall_at_k(ranks, 5),
    "top-10": lambda ranks, _: recall_at_k(ranks, 10),
    "median rank": lambda ranks, _: float(np.median(ranks)),
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
    """What one method, trained once, says of the test galaxies, one entry per galaxy.

    Attributes:
        method: Name in the tables.
        modality: What it was given; for retrieval the direction.
        values: By target. Retrieval has ranks of the "partner", and of properties the means of
            the neighbours'; densities have logarithms as "posterior", and a CRPS of each property.
        n_train: Galaxies learned from, those with any label.
        baseline: Whether the method is one to beat.
        seconds: CPU time.
        seed: Of the training.
        commit: Of the code that said it, where it was kept; "" outside a checkout.
    """

    method: str
    modality: Modality
    values: Columns
    n_train: int
    baseline: bool = False
    seconds: float | None = None
    seed: int = 0
    commit: str = ""


class Scored(NamedTuple):
    """A target's predictions by seed and its truth, of the galaxies whose truth is known."""

    target: str
    predicted: list[np.ndarray]
    true: np.ndarray
    scores: dict[str, Score]


def fit_predict(
    method: str,
    modality: Modality,
    learner: Learner,
    features: Mapping[str, Features],
    labels: Mapping[str, Columns],
    *,
    morphology: bool = True,
    baseline: bool = False,
    seed: int = 0,
) -> Predictions:
    """Learns the properties that `labels` hold, jointly, and the morphology; predicts the test's.

    Neither without a known label in head-train and in validation.

    Args:
        method: Name in the tables.
        modality: What the features were made of.
        learner: `KNNProbe`, `RidgeProbe`, `MLPProbe`, `Boosting` or a `SupervisedLearner`.
        features: By part: "head-train", "validation", "test"; vectors, or pixels for networks.
        labels: Survey columns by part, at least "head-train" and "validation".
        morphology: Whether to learn that too.
        baseline: Whether the method is one to beat.
        seed: That the learner has, to be noted.
    """
    start = time.process_time()
    values = _properties(learner, features, labels)
    if morphology:
        values |= _morphology(learner, features, labels)
    seconds = time.process_time() - start
    n_train = int(labelled(labels["head-train"]).sum())
    return Predictions(method, modality, values, n_train, baseline, seconds, seed)


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
    """Predictions of the morphology, if some galaxy of head-train and of validation has one."""
    data = []
    for part in ("head-train", "validation"):
        classes = labels[part].get("morphology", np.array([""]))
        named = known(classes)
        if not named.any():
            return {}
        data += [features[part][named], classes[named]]
    return {"morphology": learner.fit(*data).predict(features["test"])}


def score(trained: Sequence[Predictions], truth: Columns, *, seed: int = 0) -> list[Result]:
    """Every score of every target of one method, over the galaxies whose truth is known.

    Args:
        trained: The method with each of its seeds.
        truth: Labels of the test galaxies, or of the queries; ranks and densities need none.
        seed: Of the bootstrap.
    """
    return [
        _result(trained, scored, metric, over_seeds(function), seed)
        for scored in _targets(trained, truth)
        for metric, function in scored.scores.items()
    ]


def over_seeds(score: Score) -> Callable[..., float]:
    """The mean score of several predictions, (S, B, …) transposed to rows, of one truth."""

    def mean(predicted: np.ndarray, true: np.ndarray) -> float:
        return float(np.mean([score(one, true) for one in np.moveaxis(predicted, 1, 0)]))

    return mean


def paired(
    ours: Sequence[Predictions],
    theirs: Sequence[Predictions],
    truth: Columns,
    target: str,
    metric: str,
    *,
    seed: int = 0,
) -> Result:
    """By how much we score more than a rival on the same galaxies, both the mean over seeds.

    Raises:
        StopIteration: If either has no such score.
    """
    both = [next(s for s in _targets(t, truth) if s.target == target) for t in (ours, theirs)]
    function = over_seeds(both[0].scores[metric])
    stacks = [np.stack(s.predicted, axis=1) for s in both]
    estimate = difference(function, *stacks, both[0].true, n=DRAWS, seed=seed)
    first, n_test, name = ours[0], len(both[0].true), f"{metric}{DIFFERENCE}"
    return Result(
        *(first.method, first.modality, target, name, *estimate, first.n_train, n_test, False),
        seeds=len(ours),
        rival=theirs[0].method,
    )


def _result(
    trained: Sequence[Predictions],
    scored: Scored,
    metric: str,
    function: Callable[..., float],
    seed: int,
) -> Result:
    first, stack = trained[0], np.stack(scored.predicted, axis=1)
    estimate = bootstrap(function, stack, scored.true, n=DRAWS, seed=seed)
    each = [function(one[:, None], scored.true) for one in scored.predicted]
    seconds = [p.seconds for p in trained if p.seconds is not None]
    return Result(
        *(first.method, first.modality, scored.target, metric, *estimate),
        n_train=first.n_train,
        n_test=len(scored.true),
        baseline=first.baseline,
        seconds=float(np.mean(seconds)) if seconds else None,
        seeds=len(trained),
        spread=float(np.std(each)),
    )


def _targets(trained: Sequence[Predictions], truth: Columns) -> Iterator[Scored]:
    """What a method can be scored on."""
    first = trained[0]
    for name, values in first.values.items():
        true = truth.get(name, values)  # ranks and densities are scores by themselves
        yield _scored(trained, name, [p.values[name] for p in trained], true)
    if set(PHYSICS) <= set(first.values) and "→" not in first.modality:
        stacks = [np.stack([p.values[name] for name in PHYSICS], axis=1) for p in trained]
        true = np.stack([truth[name] for name in PHYSICS], axis=1)
        yield _scored(trained, "properties", stacks, true)


def _scored(
    trained: Sequence[Predictions], name: str, predicted: list[np.ndarray], true: np.ndarray
) -> Scored:
    rows = known(true) if true.ndim == 1 else known(true).all(axis=1)
    if "→" in trained[0].modality:  # no neighbour's label may be known
        rows = np.all([rows, *(known(p) for p in predicted)], axis=0)
    predicted, true = [p[rows] for p in predicted], true[rows]
    for one in predicted:
        if not known(one).all():
            raise ValueError(
                f"{trained[0].method} gives no finite {name} for {(~known(one)).sum()} of "
                f"{rows.sum()} galaxies; every test galaxy needs a prediction"
            )
    if name == "morphology":  # numbers are counted faster than names
        classes = np.unique(np.concatenate([*predicted, true]))
        *predicted, true = (np.searchsorted(classes, x) for x in (*predicted, true))
    target = name.removesuffix(CRPS)
    return Scored(target, predicted, true, _scores(name, trained[0].modality))


def _scores(name: str, modality: Modality) -> dict[str, Score]:
    if name.endswith(CRPS):
        return {"CRPS": lambda crps, _: float(np.mean(crps))}
    if "→" in modality:
        return RANK_SCORES if name == "partner" else {"neighbours' R²": r2}
    special: dict[str, dict[str, Score]] = {
        "redshift": REDSHIFT_SCORES,
        "morphology": CLASS_SCORES,
        "posterior": {"NLL": lambda log_density, _: float(-np.mean(log_density))},
        "properties": {"mean R²": mean_r2},
    }
    return special.get(name, PROPERTY_SCORES)
