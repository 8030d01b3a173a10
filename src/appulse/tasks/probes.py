"""Probes: small learners that read properties and classes off frozen features.

Fit on galaxies that no encoder saw, choose on validation galaxies, report on others.

Shapes: B galaxies (V for validation), D features, P targets, N neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from .neighbours import Space
from .network import learn, mlp
from .targets import Scale, TargetCode, Targets, ValTargets

NEIGHBOURS = (4, 8, 16, 32, 64)  # numbers of neighbours to choose from
PENALTIES = tuple(10.0**k for k in range(-2, 5))  # on squared slopes per standard unit
WIDTH = 128

Features = Float[np.ndarray, "B D"]
ValFeatures = Float[np.ndarray, "V D"]


class Neighbours(NamedTuple):
    """Whose mean a prediction is."""

    space: Space
    number: int


class KNNProbe:
    """Mean of the nearest neighbours (Euclidean), weighted by 1 / distance.

    Near are features as they are, or whitened; which, and the number of neighbours, is chosen on
    validation, for each target. Classes are the mean of their indicators, so that the prediction
    is the weighted vote.
    """

    def __init__(self, x: Features, y: Targets):
        _require_finite(x)
        self._code = TargetCode.of(y)
        self._y = self._code.encode(y)
        self.spaces = [Space(x)]
        self.chosen = [Neighbours(self.spaces[0], min(NEIGHBOURS[-1], len(x)))]
        self.chosen *= self._code.outputs

    @classmethod
    def fit(cls, x: Features, y: Targets, x_val: ValFeatures, y_val: ValTargets) -> "KNNProbe":
        """Keeps x and y; chooses space and number by the squared error on x_val and y_val."""
        probe = cls(x, y)
        probe.spaces.append(Space(x, whitened=True))
        numbers = [k for k in NEIGHBOURS if k <= len(x)] or [len(x)]
        choices = [Neighbours(space, k) for space in probe.spaces for k in numbers]
        found = {space: space.nearest(x_val, numbers[-1]) for space in probe.spaces}
        means = np.stack([probe._mean(*found[space], k) for space, k in choices])
        probe.chosen = [choices[i] for i in _best(means, probe._code, y_val)]
        return probe

    def predict(self, x: Features) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        most = max(choice.number for choice in self.chosen)
        found = {space: space.nearest(x, most) for space in {c.space for c in self.chosen}}
        columns = [self._mean(*found[s], k)[:, i] for i, (s, k) in enumerate(self.chosen)]
        return self._code.decode(np.stack(columns, axis=1))

    def _mean(
        self, distance: Float[np.ndarray, "B N"], rows: Int[np.ndarray, "B N"], k: int
    ) -> Float[np.ndarray, "B P"]:
        """Weighted mean over the first k neighbours whose target is known; else over all rows."""
        y = self._y[rows[:, :k]]
        weight = np.where(np.isnan(y), 0, 1 / np.maximum(distance[:, :k, None], 1e-6))
        total = weight.sum(axis=1)
        mean = (weight * np.nan_to_num(y)).sum(axis=1) / np.where(total > 0, total, 1)
        return np.where(total > 0, mean, np.nanmean(self._y, axis=0))


class RidgeProbe:
    """Ridge regression on standardised features: the most careful where labels are few.

    The penalty is chosen on validation, for each target; the indicators of classes share one.
    """

    def __init__(self, lines: Sequence[Ridge], scale: Scale, code: TargetCode):
        self.lines, self.scale, self.code = lines, scale, code

    @classmethod
    def fit(cls, x: Features, y: Targets, x_val: ValFeatures, y_val: ValTargets) -> "RidgeProbe":
        """Fits x and y with each of `PENALTIES`, and keeps those with the least squared error."""
        _require_finite(x)
        code, scale = TargetCode.of(y), Scale.of(x)
        seen, asked = scale.apply(x), scale.apply(x_val)
        targets = code.encode(y).T
        fits = [[_line(seen, target, size) for target in targets] for size in PENALTIES]
        found = np.stack([np.stack([f.predict(asked) for f in lines], axis=1) for lines in fits])
        chosen = _best(found, code, y_val)
        return cls([fits[best][k] for k, best in enumerate(chosen)], scale, code)

    def predict(self, x: Features) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        seen = self.scale.apply(x)
        return self.code.decode(np.stack([line.predict(seen) for line in self.lines], axis=1))


def _line(x: Features, y: Float[np.ndarray, "B"], penalty: float) -> Ridge:
    """Learned from the rows whose target is known."""
    known = np.isfinite(y)
    return Ridge(penalty).fit(x[known], y[known])


class MLPProbe:
    """Two hidden layers on standardised features, stopped early on validation.

    Numbers are fitted jointly, standardised, by squared error over those known; classes by
    cross-entropy.
    """

    def __init__(self, net: nn.Module, scale: Scale, code: TargetCode):
        self.net, self.scale, self.code = net, scale, code

    @classmethod
    def fit(
        cls, x: Features, y: Targets, x_val: ValFeatures, y_val: ValTargets, seed: int = 0
    ) -> "MLPProbe":
        """Trains on x and y; keeps the weights of the epoch with the least loss on x_val, y_val."""
        _require_finite(x)
        code, scale = TargetCode.of(y), Scale.of(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = mlp([x.shape[1], WIDTH, WIDTH, code.outputs])
            learn(
                net,
                (_tensor(scale.apply(x)), _tensor(code.encode(y))),
                (_tensor(scale.apply(x_val)), _tensor(code.encode(y_val))),
                code.loss,
            )
        return cls(net, scale, code)

    @torch.inference_mode()
    def predict(self, x: Features) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        return self.code.decode(self.net(_tensor(self.scale.apply(x))).numpy())


def _best(
    found: Float[np.ndarray, "C V P"], code: TargetCode, y_val: ValTargets
) -> Int[np.ndarray, "P"]:
    """Which of C settings has the least squared error, for each target; one for all classes."""
    error = np.nanmean((found - code.encode(y_val)) ** 2, axis=1)
    if code.classes is not None:  # the columns are one vote
        error = np.broadcast_to(error.sum(axis=1, keepdims=True), error.shape)
    return error.argmin(axis=0)


def _require_finite(x: Features) -> None:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(x)} rows of features are not finite: rows {bad[:5].tolist()}; "
            "leave them out"
        )


def _tensor(x: Float[np.ndarray, "B D"]) -> Float[Tensor, "B D"]:
    return torch.from_numpy(x.astype(np.float32))
