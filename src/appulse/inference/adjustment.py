"""Linear regression of the parameters on the evidence, before any network sees them.

Shapes: B observations, S samples, D parameters, F features, K blocks, P = 2^K subsets of them.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor, nn

from .evidence import Evidence, Kind

MOST_BLOCKS = 8
RIDGE, RIDGE_PER_FEATURE = 1e-4, 0.1
ROUNDS = 30  # of reweighting
WORTH = 1.0  # nats that a fit for outliers must gain
CAUCHY = 2.385  # residuals this many sd out count half (95 % efficiency, Holland & Welsch 1977)


class Coordinates(NamedTuple):
    """What one observation fixes of u = shift + scale sinh(asinh(root r) / tail).

    The last step is the sinh-arcsinh map of Jones & Pewsey (2009): with tail < 1, residuals that
    are mostly small and rarely huge become about normal; with scale = tail = 1 it is the identity.
    """

    shift: Float[Tensor, "B D"]
    root: Float[Tensor, "B D D"]
    scale: Float[Tensor, "B D"]
    tail: Float[Tensor, "B D"]

    def u(self, r: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """From r to u."""
        bent = (torch.asinh(r @ self.root.mT) / self.tail[:, None]).sinh()
        return self.shift[:, None] + self.scale[:, None] * bent

    def r(self, u: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """From u to r."""
        normal = _normal((u - self.shift[:, None]) / self.scale[:, None], self.tail[:, None])
        return torch.linalg.solve_triangular(self.root, normal.mT, upper=False).mT

    def log_slope(self, u: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """log |det dr/du|."""
        away = (u - self.shift[:, None]) / self.scale[:, None]
        bends = _log_slope(away, self.tail[:, None]) - self.scale[:, None].log()
        return bends.sum(-1) - self.root.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]


class RegressionAdjustment(nn.Module):
    """Coordinates in which what a linear fit explains is taken out, and the rest whitened.

    Regression adjustment (Beaumont, Zhang & Balding 2002), here as coordinates of the flow: a
    linear Gaussian posterior is r ~ N(0, I) exactly, other ones are nearer to it than before. Each
    subset of the evidence has a fit of its own, made on the rows that hold it all.

    With `outliers`, residuals may be far beyond their usual size, as those of redshifts are: the
    fit is by Cauchy weights, and the sinh-arcsinh map of the residuals by maximum likelihood. That
    is done for parameters whose density gains by it; others keep what is not linear as it is.
    """

    def __init__(self, dim: int, kinds: dict[str, Kind], outliers: bool = False):
        super().__init__()
        if len(kinds) > MOST_BLOCKS:
            raise ValueError(f"there are {len(kinds)} blocks; expected {MOST_BLOCKS} at most")
        features, subsets = sum(kind.features for kind in kinds.values()), 2 ** len(kinds)
        self.outliers = outliers
        self.mean: Tensor
        self.sd: Tensor
        self.constant: Tensor
        self.slope: Tensor
        self.root: Tensor
        self.scale: Tensor
        self.tail: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))
        self.register_buffer("constant", torch.zeros(subsets, dim))
        self.register_buffer("slope", torch.zeros(subsets, dim, features))
        self.register_buffer("root", torch.eye(dim).repeat(subsets, 1, 1))
        self.register_buffer("scale", torch.ones(subsets, dim))
        self.register_buffer("tail", torch.ones(subsets, dim))

    def learn(self, u: Float[Tensor, "B D"], evidence: Evidence) -> None:
        """Fits every subset by ridge regression."""
        features = _features(evidence).double()
        self.mean, sd = features.mean(0).float(), features.std(0).float()
        self.sd = torch.where(sd > 1e-6 * self.mean.abs(), sd, torch.ones_like(sd))
        standard = (features - self.mean) / self.sd
        widths = torch.tensor([kind.features for kind in evidence.kinds.values()])
        present = evidence.present
        for subset in range(len(self.constant)):
            bits = torch.tensor([bool(subset >> k & 1) for k in range(len(widths))])
            rows = (present | ~bits).all(1)
            if rows.sum() > 1:
                used = bits.repeat_interleave(widths)
                self._fit(subset, used, u[rows].double(), standard[rows][:, used])

    def _fit(self, subset: int, used: Tensor, u: Tensor, features: Tensor) -> None:
        rest = torch.empty_like(u)
        for k, y in enumerate(u.T):
            fit = _plain_fit(features, y)
            if self.outliers:
                robust = _robust_fit(features, y)
                fit = robust if robust.score > fit.score + WORTH else fit
            self.constant[subset, k], self.slope[subset, k, used] = fit.constant, fit.slope.float()
            self.scale[subset, k], self.tail[subset, k] = fit.scale, fit.tail
            away = (y - fit.constant - features @ fit.slope) / fit.scale
            rest[:, k] = _normal(away, torch.tensor(fit.tail))
        covariance = rest.T @ rest / len(rest)
        floor = 1e-8 * covariance.diagonal().max() + 1e-12
        jitter = floor * torch.eye(u.shape[1], dtype=u.dtype)
        self.root[subset] = torch.linalg.cholesky(covariance + jitter).float()

    def forward(self, evidence: Evidence) -> Coordinates:
        """The coordinates of each observation."""
        subset = self._subsets(evidence)
        standard = (_features(evidence) - self.mean) / self.sd
        shift = self.constant[subset]
        for one in subset.unique():
            rows = subset == one
            shift[rows] += standard[rows] @ self.slope[one].T
        return Coordinates(shift, self.root[subset], self.scale[subset], self.tail[subset])

    def _subsets(self, evidence: Evidence) -> Int[Tensor, "B"]:
        present = evidence.present
        return (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(1)


class _Fit(NamedTuple):
    """A linear fit of one parameter, the map of its residuals, and their mean log density."""

    constant: float
    slope: Float[Tensor, "F"]
    scale: float
    tail: float
    score: float


def _plain_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> _Fit:
    """Ridge regression; the residuals stay as they are."""
    constant, slope = _ridge(x, y, torch.ones_like(y))
    variance = float((y - constant - x @ slope).square().mean().clamp(min=1e-18))
    return _Fit(constant, slope, 1.0, 1.0, -0.5 * math.log(variance) - 0.5)


def _robust_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> _Fit:
    """The same by iteratively reweighted least squares, which outliers hardly move."""
    constant, slope = _ridge(x, y, torch.ones_like(y))
    for _ in range(ROUNDS):
        rest = y - constant - x @ slope
        spread = float(rest.abs().median().clamp(min=1e-9)) / 0.6745
        weight = 1 / (1 + (rest / (CAUCHY * spread)) ** 2)
        constant, slope = _ridge(x, y, weight, spread**2)
    return _Fit(constant, slope, *_sinh_arcsinh(y - constant - x @ slope))


def _ridge(
    x: Float[Tensor, "B F"],
    y: Float[Tensor, "B"],
    weight: Float[Tensor, "B"],
    variance: float = 1.0,
) -> tuple[float, Float[Tensor, "F"]]:
    """Constant and slope of a weighted ridge regression, for residuals of this variance."""
    share = weight / weight.sum()
    centre, middle = share @ y, share @ x
    away, x = y - centre, x - middle
    n, used = len(y), int((x != 0).any(0).sum())
    penalty = variance * (RIDGE + RIDGE_PER_FEATURE * used / n)
    ridge = penalty * torch.eye(x.shape[1], dtype=x.dtype)
    slope = torch.linalg.solve(x.T @ (share[:, None] * x) + ridge, x.T @ (share * away))
    return float(centre - slope @ middle), slope


def _sinh_arcsinh(rest: Float[Tensor, "B"]) -> tuple[float, float, float]:
    """Scale and tail that make residuals most nearly N(0, 1), and their mean log density."""
    spread = float(rest.abs().median().clamp(min=1e-9)) / 0.6745

    def loss(logs: np.ndarray) -> float:
        scale, tail = np.exp(np.clip(logs, -5, 5))
        away, power = rest / (scale * spread), torch.tensor(tail)
        density = _log_slope(away, power) - 0.5 * _normal(away, power) ** 2
        return float(math.log(scale * spread) - density.mean())

    found = minimize(loss, [0.0, 0.0], method="Nelder-Mead")
    scale, tail = np.exp(np.clip(found.x, -5, 5))
    return float(scale * spread), float(tail), -float(found.fun)


def _normal(away: Tensor, tail: Tensor) -> Tensor:
    return (tail * torch.asinh(away)).sinh()


def _log_slope(away: Tensor, tail: Tensor) -> Tensor:
    """log d _normal / d away."""
    power = (tail * torch.asinh(away)).abs()
    cosh = power + torch.log1p((-2 * power).exp()) - math.log(2)
    return cosh + tail.log() - 0.5 * torch.log1p(away**2)


def _features(evidence: Evidence) -> Float[Tensor, "B F"]:
    """All blocks side by side, sets by their mean."""
    means = []
    for name, block in evidence.blocks.items():
        there = evidence.members[name]
        means.append((block * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1))
    return torch.cat(means, 1)
