"""Linear regression of the parameters on the evidence, before any network sees them.

Shapes: B observations, D parameters, F features, K blocks, P = 2^K subsets of them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .evidence import Evidence, Kind

MOST_BLOCKS = 8
RIDGE, RIDGE_PER_FEATURE = 1e-4, 0.1


class RegressionAdjustment(nn.Module):
    """u = shift(evidence) + L r: what a linear fit explains is taken out, the rest whitened.

    Regression adjustment (Beaumont, Zhang & Balding 2002), here as coordinates of the flow: a
    linear Gaussian posterior is r ~ N(0, I) exactly, other ones are nearer to it than before. Each
    subset of the evidence has a fit of its own, made on the rows that hold it all.
    """

    def __init__(self, dim: int, kinds: dict[str, Kind]):
        super().__init__()
        if len(kinds) > MOST_BLOCKS:
            raise ValueError(f"there are {len(kinds)} blocks; expected {MOST_BLOCKS} at most")
        features, subsets = sum(kind.features for kind in kinds.values()), 2 ** len(kinds)
        self.mean: Tensor
        self.sd: Tensor
        self.constant: Tensor
        self.slope: Tensor
        self.root: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))
        self.register_buffer("constant", torch.zeros(subsets, dim))
        self.register_buffer("slope", torch.zeros(subsets, dim, features))
        self.register_buffer("root", torch.eye(dim).repeat(subsets, 1, 1))

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
                self._fit(subset, u[rows].double(), standard[rows] * used)

    def _fit(self, subset: int, u: Tensor, features: Tensor) -> None:
        centre, middle = u.mean(0), features.mean(0)
        away, x = u - centre, features - middle
        n, used = len(u), int((x != 0).any(0).sum())
        ridge = (RIDGE + RIDGE_PER_FEATURE * used / n) * torch.eye(x.shape[1], dtype=x.dtype)
        slope = torch.linalg.solve(x.T @ x / n + ridge, x.T @ away / n).T
        rest = away - x @ slope.T
        covariance = rest.T @ rest / n
        floor = 1e-8 * covariance.diagonal().max() + 1e-12
        jitter = floor * torch.eye(len(centre), dtype=x.dtype)
        self.constant[subset] = (centre - slope @ middle).float()
        self.slope[subset] = slope.float()
        self.root[subset] = torch.linalg.cholesky(covariance + jitter).float()

    def forward(self, evidence: Evidence) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D D"]]:
        """Shift and root of each observation."""
        subset = self._subsets(evidence)
        standard = (_features(evidence) - self.mean) / self.sd
        shift = self.constant[subset]
        for one in subset.unique():
            rows = subset == one
            shift[rows] += standard[rows] @ self.slope[one].T
        return shift, self.root[subset]

    def _subsets(self, evidence: Evidence) -> Int[Tensor, "B"]:
        present = evidence.present
        return (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(1)


def _features(evidence: Evidence) -> Float[Tensor, "B F"]:
    """All blocks side by side, sets by their mean."""
    means = []
    for name, block in evidence.blocks.items():
        there = evidence.members[name]
        means.append((block * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1))
    return torch.cat(means, 1)
