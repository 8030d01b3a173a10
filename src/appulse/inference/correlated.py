"""A joint Gaussian prior.

Shapes: B batch, D parameters.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .prior import Prior


class CorrelatedPrior(Prior):
    """A joint Gaussian of free parameters."""

    def __init__(
        self,
        mean: Sequence[float],
        covariance: Sequence[Sequence[float]],
        names: Sequence[str] | None = None,
    ):
        """Takes mean (D,) and covariance (D, D); names default to theta0, theta1, …

        Raises:
            ValueError: If the covariance is not that of D parameters.
        """
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.covariance = torch.as_tensor(covariance, dtype=torch.float64)
        dim = len(self.mean)
        self.names = tuple(names or (f"theta{i}" for i in range(dim)))
        if self.covariance.shape != (dim, dim) or len(self.names) != dim:
            raise ValueError(
                f"mean has {dim} entries, the covariance shape {tuple(self.covariance.shape)} and "
                f"there are {len(self.names)} names; expected as many of each"
            )
        self.root, failed = torch.linalg.cholesky_ex(self.covariance)
        if failed or not torch.allclose(self.covariance, self.covariance.T):
            raise ValueError(
                f"the covariance is {self.covariance.tolist()}; expected a symmetric and positive "
                "definite matrix"
            )

    def theta(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Mean + root u."""
        return self.mean.to(u.device) + u @ self.root.to(u.device).T

    def normal(self, theta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """root⁻¹ (θ − mean)."""
        away = (theta - self.mean.to(theta.device))[..., None]
        return torch.linalg.solve_triangular(self.root.to(theta.device), away, upper=False)[..., 0]

    def log_slope(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """Log det root."""
        return self.root.diagonal().log().sum().to(u.device).expand(u.shape[:-1])

    def outside(self, theta: Float[Tensor, "*B D"]) -> Bool[Tensor, "*B D"]:
        """Only NaN and infinity."""
        return ~theta.isfinite()

    def support(self, parameter: int) -> tuple[float, float]:
        """Everything."""
        return -math.inf, math.inf

    def describe(self) -> dict[str, Any]:
        """Names, mean and covariance."""
        names = list(self.names)
        return {"names": names, "mean": self.mean.tolist(), "covariance": self.covariance.tolist()}
