"""Probes: small learners that read properties and classes off frozen features.

Fit on galaxies that no encoder saw, choose on validation galaxies, report on others.

Shapes: B galaxies (V for validation), D features, P targets, N neighbours.
"""

from collections.abc import Sequence

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


class KNNProbe:
    """Mean of the nearest neighbours (Euclidean), weighted by 1 / distance.

    Near are features as they are, or whitened. Which, and the number of neighbours of each target,
    is chosen on validation. Classes are the mean of their indicators, so that the prediction is the
    weighted vote.
    """

    def __init__(self, x: Features, y: Targets):
        _require_finite(x)
        self._code = TargetCode.of(y)
        self._y = self._code.encode(y)
        self.neighbours = [min(NEIGHBOURS[-1], len(x))] * self._code.outputs  # per target
        self.space = Space(x)

    @classmethod
    def fit(cls, x: Features, y: Targets, x_val: ValFeatures, y_val: ValTargets) -> "KNNProbe":
        """Keeps x and y, and chooses by the squared error on x_val and y_val."""
        probe, least = cls(x, y), np.inf
        choices = [k for k in NEIGHBOURS if k <= len(x)] or [len(x)]
        for space in (probe.space, Space(x, whitened=True)):
            found = space.nearest(x_val, choices[-1])
            means = np.stack([probe._mean(*found, k) for k in choices])
            error = _squared_error(means, probe._code, y_val)
            mean = np.nanmean(error.min(axis=0))
            if mean < least:
                least, probe.space = mean, space
                probe.neighbours = [choices[i] for i in error.argmin(axis=0)]
        return probe

    def predict(self, x: Features) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        found = self.space.nearest(x, max(self.neighbours))
        columns = [self._mean(*found, k)[:, i] for i, k in enumerate(self.neighbours)]
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
        chosen = _squared_error(found, code, y_val).argmin(axis=0)
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


def _squared_error(
    found: Float[np.ndarray, "C V P"], code: TargetCode, y_val: ValTargets
) -> Float[np.ndarray, "C P"]:
    """Of C settings, for each target; all classes have that of their vote."""
    error = np.nanmean((found - code.encode(y_val)) ** 2, axis=1)
    if code.classes is not None:
        error = np.broadcast_to(error.sum(axis=1, keepdims=True), error.shape)
    return error


def _require_finite(x: Features) -> None:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(x)} rows of features are not finite: rows {bad[:5].tolist()}; "
            "leave them out"
        )


def _tensor(x: Float[np.ndarray, "B D"]) -> Float[Tensor, "B D"]:
    return torch.from_numpy(x.astype(np.float32))
