"""Linear regression of the parameters on the evidence, before any network sees them.

Shapes: B observations, S samples, D parameters, F features, K blocks, P = 2^K subsets of them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .evidence import Evidence, Kind
from .mixture import Mixture
from .regression import LinearFit, best_fit, judged

MOST_BLOCKS = 8
FEWEST = 2  # rows that a fit is tried on


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
    subset of the evidence has a fit of its own, made on the rows that hold it all; where too few
    do, r = u, as if there were no evidence.

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

    def learn(self, u: Float[Tensor, "B D"], evidence: Evidence) -> Float[Tensor, "B P D"]:
        """Fits every subset of the evidence that two rows or more hold.

        Where a fit to a part of a subset does better, the subset takes that.

        Returns:
            How far each row pulled each fit towards itself. Rows lie nearer to the fit than new
            ones do; who learns from them without taking that back becomes too sure.
        """
        features, widths = _features(evidence).double(), _widths(evidence)
        known = features.where(evidence.present.repeat_interleave(widths, 1), torch.nan)
        mean = known.nanmean(0)
        self.mean, sd = mean.float(), (known - mean).square().nanmean(0).sqrt().float()
        self.sd = torch.where(sd > 1e-6 * self.mean.abs(), sd, torch.ones_like(sd))
        x, u = (features - self.mean) / self.sd, u.double()
        rest = u[:, None].repeat(1, len(self.constant), 1)
        pull = torch.zeros(rest.shape)
        for subset, blocks, rows in evidence.subsets():
            if rows.sum() < FEWEST:
                continue
            for k, y in enumerate(u[rows].T):
                others = [self._fit(part, k, rest[rows, part, k]) for part in _parts(subset)]
                used = blocks.repeat_interleave(widths)
                fit = best_fit(x[rows], y, used, others, self.outliers)
                self._keep(fit, subset, k)
                rest[rows, subset, k] = fit.rest
                pull[rows, subset, k] = (fit.rest - fit.left(x[rows], y)).float()
            self.root[subset] = self._whitening(subset, rest[rows, subset])
        return pull

    def _fit(self, subset: int, k: int, rest: Float[Tensor, "B"]) -> LinearFit:
        """What was kept of a parameter's fit, as it does on some rows."""
        mixture = Mixture(*(a[subset, k].double() for a in (self.core, self.wide, self.share)))
        slope = self.slope[subset, k].double()
        return judged(float(self.constant[subset, k]), slope, rest, mixture)

    def _keep(self, fit: LinearFit, subset: int, k: int) -> None:
        self.constant[subset, k], self.slope[subset, k] = fit.constant, fit.slope.float()
        self.core[subset, k], self.wide[subset, k], self.share[subset, k] = fit.mixture

    def _whitening(self, subset: int, rest: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
        """Root of the covariance of what is left, as normal quantiles."""
        mixture = Mixture(*(a[subset].double() for a in (self.core, self.wide, self.share)))
        normal = mixture.normal(rest)
        covariance = normal.T @ normal / len(normal)
        floor = 1e-8 * covariance.diagonal().max() + 1e-12
        jitter = floor * torch.eye(len(covariance), dtype=covariance.dtype)
        return torch.linalg.cholesky(covariance + jitter).float()

    def forward(
        self, evidence: Evidence, pull: Float[Tensor, "B P D"] | None = None
    ) -> Coordinates:
        """The coordinates of each observation; of rows that were learned, without their pull."""
        subset = evidence.subset
        standard = (_features(evidence) - self.mean) / self.sd
        shift = self.constant[subset]
        for one in subset.unique():
            rows = subset == one
            shift[rows] += standard[rows] @ self.slope[one].T
        if pull is not None:
            shift = shift - pull[torch.arange(len(pull)), subset]
        mixture = (self.core[subset], self.wide[subset], self.share[subset])
        return Coordinates(shift, self.root[subset], *mixture)


def _parts(subset: int) -> list[int]:
    """The subset without one of its blocks, and not empty."""
    bits = (1 << k for k in range(subset.bit_length()) if subset >> k & 1)
    return [subset - bit for bit in bits if subset != bit]


def _widths(evidence: Evidence) -> Int[Tensor, "K"]:
    return torch.tensor([kind.features for kind in evidence.kinds.values()])


def _features(evidence: Evidence) -> Float[Tensor, "B F"]:
    """All blocks side by side, sets by their mean."""
    means = []
    for name, block in evidence.blocks.items():
        there = evidence.members[name]
        means.append((block * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1))
    return torch.cat(means, 1)
