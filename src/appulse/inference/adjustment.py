"""Linear regression of the parameters on the evidence, before any network sees them.

Shapes: B observations, S samples, D parameters, F features, K blocks, P = 2^K subsets of them.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .evidence import Evidence, Kind
from .mixture import LOG_ROOT, Mixture, fit_mixture

MOST_BLOCKS = 8
RIDGE, RIDGE_PER_FEATURE = 1e-4, 0.1
ROUNDS = 30  # of reweighting
ONE = tuple(torch.tensor(value).double() for value in (1.0, 1.0, 0.0))  # residuals as they are
HINT = 0.1  # nats that outliers must be worth in the usual fit, before one for them is tried
WORTH = 1.0  # nats that a fit for outliers must gain
CAUCHY = 2.385  # residuals this many sd out count half (95 % efficiency, Holland & Welsch 1977)


class Coordinates(NamedTuple):
    """What one observation fixes of r, in which its u is about N(0, I).

    u − shift is a mixture of many small residuals and few large ones, each parameter with N(0,
    core²) and a share of N(0, wide²); it is mapped to a normal by their distribution function, and
    whitened by the root. Without a share of large ones, u = shift + root r.
    """

    shift: Float[Tensor, "B D"]
    root: Float[Tensor, "B D D"]
    core: Float[Tensor, "B D"]
    wide: Float[Tensor, "B D"]
    share: Float[Tensor, "B D"]

    @property
    def _mixture(self) -> "Mixture":
        return Mixture(*(a[:, None] for a in (self.core, self.wide, self.share)))

    def u(self, r: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """From r to u."""
        return self.shift[:, None] + self._mixture.residual(r @ self.root.mT)

    def r(self, u: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """From u to r."""
        normal = self._mixture.normal(u - self.shift[:, None])
        return torch.linalg.solve_triangular(self.root, normal.mT, upper=False).mT

    def log_slope(self, u: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """log |det dr/du|."""
        bends = self._mixture.log_slope(u - self.shift[:, None])
        return bends.sum(-1) - self.root.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]


class RegressionAdjustment(nn.Module):
    """Coordinates in which what a linear fit explains is taken out, and the rest whitened.

    Regression adjustment (Beaumont, Zhang & Balding 2002), here as coordinates of the flow: a
    linear Gaussian posterior is r ~ N(0, I) exactly, other ones are nearer to it than before. Each
    subset of the evidence has a fit of its own, made on the rows that hold it all.

    With `outliers`, residuals may be far beyond their usual size, as those of redshifts are: the
    fit is by Cauchy weights, and residuals are a mixture of small and large ones. That is done for
    parameters whose density gains by it; others keep what is not linear as it is. Of both fits,
    features of no use are left out.
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
        self.core: Tensor
        self.wide: Tensor
        self.share: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))
        self.register_buffer("constant", torch.zeros(subsets, dim))
        self.register_buffer("slope", torch.zeros(subsets, dim, features))
        self.register_buffer("root", torch.eye(dim).repeat(subsets, 1, 1))
        self.register_buffer("core", torch.ones(subsets, dim))
        self.register_buffer("wide", torch.ones(subsets, dim))
        self.register_buffer("share", torch.zeros(subsets, dim))

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
            fit = self._best_fit(features, y)
            self.constant[subset, k], self.slope[subset, k, used] = fit.constant, fit.slope.float()
            self.core[subset, k], self.wide[subset, k], self.share[subset, k] = fit.mixture
            rest[:, k] = fit.mixture.normal(y - fit.constant - features @ fit.slope)
        covariance = rest.T @ rest / len(rest)
        floor = 1e-8 * covariance.diagonal().max() + 1e-12
        jitter = floor * torch.eye(u.shape[1], dtype=u.dtype)
        self.root[subset] = torch.linalg.cholesky(covariance + jitter).float()

    def _best_fit(self, x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> "_Fit":
        if not self.outliers:
            return _plain_fit(x, y)
        usual = _relevant_fit(x, y, robust=False)
        rest = y - usual.constant - x @ usual.slope
        if fit_mixture(rest).log_density(rest).mean() < usual.score + HINT:
            return usual
        robust = _relevant_fit(x, y, robust=True)
        return robust if robust.score > usual.score + WORTH else usual

    def forward(self, evidence: Evidence) -> Coordinates:
        """The coordinates of each observation."""
        subset = self._subsets(evidence)
        standard = (_features(evidence) - self.mean) / self.sd
        shift = self.constant[subset]
        for one in subset.unique():
            rows = subset == one
            shift[rows] += standard[rows] @ self.slope[one].T
        mixture = (self.core[subset], self.wide[subset], self.share[subset])
        return Coordinates(shift, self.root[subset], *mixture)

    def _subsets(self, evidence: Evidence) -> Int[Tensor, "B"]:
        present = evidence.present
        return (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(1)


class _Fit(NamedTuple):
    """A linear fit of one parameter, its residuals, and their mean log density."""

    constant: float
    slope: Float[Tensor, "F"]
    mixture: Mixture
    score: float


def _plain_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> _Fit:
    """Ridge regression; the residuals stay as they are."""
    used = int((x != x[0]).any(0).sum())
    penalty = torch.full_like(x[0], RIDGE + RIDGE_PER_FEATURE * used / len(y))
    constant, slope, _ = _moments(x, y, torch.ones_like(y)).ridge(penalty)
    return _judged(constant, slope, y - constant - x @ slope)


def _judged(constant: float, slope: Tensor, rest: Tensor) -> _Fit:
    """A fit whose residuals stay as they are."""
    variance = float(rest.square().mean().clamp(min=1e-18))
    return _Fit(constant, slope, Mixture(*ONE), -0.5 * math.log(variance) - 0.5 - LOG_ROOT)


def _relevant_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"], robust: bool) -> _Fit:
    """Each slope has a penalty of its own, by automatic relevance determination (MacKay 1992).

    So features of no use do not fit the noise of the few that say it all. The robust fit is by
    iteratively reweighted least squares, which outliers hardly move.
    """
    start, penalty = _plain_fit(x, y), torch.full_like(x[0], RIDGE)
    constant, slope, moments = start.constant, start.slope, _moments(x, y, torch.ones_like(y))
    for _ in range(ROUNDS):
        rest = y - constant - x @ slope
        variance = float(rest.square().mean().clamp(min=1e-18))
        if robust:
            variance = float(rest.abs().median().clamp(min=1e-9) / 0.6745) ** 2
            moments = _moments(x, y, 1 / (1 + rest**2 / (CAUCHY**2 * variance)))
        constant, slope, free = moments.ridge(penalty)
        penalty = (variance / len(y) * free / slope.square().clamp(min=1e-30)).clamp(1e-12, 1e9)
    rest = y - constant - x @ slope
    if not robust:
        return _judged(constant, slope, rest)
    mixture = fit_mixture(rest)
    return _Fit(constant, slope, mixture, float(mixture.log_density(rest).mean()))


class _Moments(NamedTuple):
    """Weighted means and covariances of features and of one parameter."""

    centre: Float[Tensor, ""]
    middle: Float[Tensor, "F"]
    spread: Float[Tensor, "F F"]
    shared: Float[Tensor, "F"]

    def ridge(
        self, penalty: Float[Tensor, "F"]
    ) -> tuple[float, Float[Tensor, "F"], Float[Tensor, "F"]]:
        """Constant and slopes of a ridge regression; how freely the data set each slope."""
        inverse = torch.linalg.inv(self.spread + penalty.diag())
        slope = inverse @ self.shared
        free = (1 - penalty * inverse.diagonal()).clamp(0, 1)
        return float(self.centre - slope @ self.middle), slope, free


def _moments(
    x: Float[Tensor, "B F"], y: Float[Tensor, "B"], weight: Float[Tensor, "B"]
) -> _Moments:
    share = weight / weight.sum()
    centre, middle = share @ y, share @ x
    away, x = y - centre, x - middle
    return _Moments(centre, middle, x.T @ (share[:, None] * x), x.T @ (share * away))


def _features(evidence: Evidence) -> Float[Tensor, "B F"]:
    """All blocks side by side, sets by their mean."""
    means = []
    for name, block in evidence.blocks.items():
        there = evidence.members[name]
        means.append((block * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1))
    return torch.cat(means, 1)
