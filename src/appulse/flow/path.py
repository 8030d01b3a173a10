"""Probability paths from noise at t = 0 to data at t = 1 (Lipman et al. 2023).

Given a data point z, the conditional path is P(x | t, z) = N(x; α(t) z, σ(t)² I). Averaged over
the data it is the marginal path P(x | t), moved by the velocity V(x, t) = E_z[V(x, t | z)].

Shapes: B batch, N data points, D width of the data; `#B` may be 1 and stand for all.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Schedule(NamedTuple):
    """Scale α of the data and σ of the noise at some times, with their time derivatives."""

    alpha: Tensor
    sigma: Tensor
    alpha_rate: Tensor
    sigma_rate: Tensor


class Path(ABC):
    """A Gaussian conditional path; a subclass says how data and noise are mixed."""

    @abstractmethod
    def schedule(self, t: Float[Tensor, "*B"]) -> Schedule:
        """α and σ at times t, and their rates."""

    def point(
        self, data: Float[Tensor, "*#B D"], noise: Float[Tensor, "*#B D"], t: Float[Tensor, "*#B"]
    ) -> Float[Tensor, "*B D"]:
        """Where noise that heads for `data` is at time t: α z + σ ε."""
        now = self.schedule(t[..., None])
        return now.alpha * data + now.sigma * noise

    def displacement(
        self, data: Float[Tensor, "*#B D"], noise: Float[Tensor, "*#B D"], t: Float[Tensor, "*#B"]
    ) -> Float[Tensor, "*B D"]:
        """The velocity of `point`: α' z + σ' ε, what a network is taught."""
        now = self.schedule(t[..., None])
        return now.alpha_rate * data + now.sigma_rate * noise

    def conditional_velocity(
        self, x: Float[Tensor, "*#B D"], t: Float[Tensor, "*#B"], data: Float[Tensor, "*#B D"]
    ) -> Float[Tensor, "*B D"]:
        """V(x, t | z) = σ'/σ (x − α z) + α' z, theorem 3 of Lipman et al. (2023)."""
        now = self.schedule(t[..., None])
        return now.sigma_rate / now.sigma * (x - now.alpha * data) + now.alpha_rate * data

    def conditional_log_density(
        self, x: Float[Tensor, "*#B D"], t: Float[Tensor, "*#B"], data: Float[Tensor, "*#B D"]
    ) -> Float[Tensor, "*B"]:
        """log P(x | t, z)."""
        now = self.schedule(t)
        squares = ((x - now.alpha[..., None] * data) ** 2).sum(-1) / now.sigma**2
        return -0.5 * squares - x.shape[-1] * (now.sigma.log() + 0.5 * math.log(2 * math.pi))

    def gaussian_rate(self, t: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """r(t) in V(x, t) = r(t) x, the marginal velocity if the data are N(0, I) themselves."""
        now = self.schedule(t)
        mixed = now.alpha * now.alpha_rate + now.sigma * now.sigma_rate
        return mixed / (now.alpha**2 + now.sigma**2)


@dataclass(frozen=True)
class LinearPath(Path):
    """Straight lines at constant speed: the optimal transport of N(0, I) to each data point.

    Lipman et al. (2023), example II: α = t, σ = 1 − (1 − σ_min) t.
    """

    sigma_min: float = 1e-4

    def schedule(self, t: Float[Tensor, "*B"]) -> Schedule:
        """α and σ at times t, and their rates."""
        fall = 1 - self.sigma_min
        one = torch.ones_like(t)
        return Schedule(t, 1 - fall * t, one, -fall * one)


@dataclass(frozen=True)
class VariancePreservingPath(Path):
    """Quarter circles, α² + σ² = 1: data of unit variance keep it on the way.

    The cosine schedule of Nichol & Dhariwal (2021), ended at σ_min so that its last velocity
    stays finite.
    """

    sigma_min: float = 1e-4

    def schedule(self, t: Float[Tensor, "*B"]) -> Schedule:
        """α and σ at times t, and their rates."""
        turn = math.acos(self.sigma_min)
        alpha, sigma = (turn * t).sin(), (turn * t).cos()
        return Schedule(alpha, sigma, turn * sigma, -turn * alpha)


def marginal_log_density(
    path: Path, x: Float[Tensor, "B D"], t: Float[Tensor, "B"], data: Float[Tensor, "N D"]
) -> Float[Tensor, "B"]:
    """log P(x | t) = log E_z[P(x | t, z)] over these data points."""
    return torch.logsumexp(_log_joint(path, x, t, data), 1) - math.log(len(data))


def marginal_velocity(
    path: Path, x: Float[Tensor, "B D"], t: Float[Tensor, "B"], data: Float[Tensor, "N D"]
) -> Float[Tensor, "B D"]:
    """V(x, t) = E_z[V(x, t | z)] over these data points, each weighted by P(z | x, t).

    Theorem 1 of Lipman et al. (2023): this is the field that carries P(x | 0) to P(x | 1).
    """
    weight = _log_joint(path, x, t, data).softmax(1)
    points, times = x[:, None], t[:, None]
    return torch.einsum("bn,bnd->bd", weight, path.conditional_velocity(points, times, data))


def _log_joint(path: Path, x: Tensor, t: Tensor, data: Tensor) -> Float[Tensor, "B N"]:
    return path.conditional_log_density(x[:, None], t[:, None], data)


def couple(data: Float[Tensor, "B D"], noise: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The same noise, reordered so that rows of data and noise are near: fewer paths cross.

    Minibatch optimal transport (Tong et al. 2024; Pooladian et al. 2023), exact in the batch.
    For unconditional flows only: with a context the pairing would make the noise depend on the
    context, while sampling draws it from N(0, I) whatever the context, and the result is biased.
    """
    cost = torch.cdist(data.double(), noise.double()).square().cpu().numpy()
    _, columns = linear_sum_assignment(cost)
    return noise[torch.as_tensor(columns, device=noise.device)]
