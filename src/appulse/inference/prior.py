"""Priors as maps from N(0, I) to parameters, so that no sample can leave them.

A uniform parameter, for instance, is low + (high − low) Φ(u), the probit map: u is exactly
N(0, 1). Densities, bounds and samples all follow from such a map.

Shapes: B batch, D parameters.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TINY = 1e-15  # a parameter on its bound is taken to be this probability inside


class Marginal(ABC):
    """The prior of one parameter: θ = f(u), increasing, for u ~ N(0, 1)."""

    @abstractmethod
    def theta(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """f(u)."""

    @abstractmethod
    def normal(self, theta: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The inverse of f."""

    @abstractmethod
    def log_slope(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """log df/du."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Lowest and highest value."""


@dataclass(frozen=True)
class Uniform(Marginal):
    """Even between two bounds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low is {self.low} and high {self.high}; expected finite low < high")

    def theta(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Low + (high − low) Φ(u), bounds included."""
        inside = self.low + (self.high - self.low) * torch.special.ndtr(u)
        return inside.clamp(self.low, self.high)

    def normal(self, theta: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Φ⁻¹ of the share of the range below θ."""
        share = (theta - self.low) / (self.high - self.low)
        return torch.special.ndtri(share.clamp(TINY, 1 - TINY))

    def log_slope(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Log of the range times N(u; 0, 1)."""
        return _log_normal(u) + math.log(self.high - self.low)

    @property
    def support(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high


@dataclass(frozen=True)
class Normal(Marginal):
    """Gaussian; also for free parameters of unknown prior, of which it sets the scale only."""

    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise ValueError(f"sd is {self.sd}; expected a positive number")

    def theta(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Mean + sd u."""
        return self.mean + self.sd * u

    def normal(self, theta: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """(θ − mean) / sd."""
        return (theta - self.mean) / self.sd

    def log_slope(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Log sd."""
        return torch.full_like(u, math.log(self.sd))

    @property
    def support(self) -> tuple[float, float]:
        """Everything."""
        return -math.inf, math.inf


@dataclass(frozen=True)
class LogNormal(Marginal):
    """Positive: the natural logarithm has this mean and standard deviation."""

    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise ValueError(f"sd is {self.sd}; expected a positive number")

    def theta(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Exp(mean + sd u), never 0."""
        return (self.mean + self.sd * u).exp().clamp(min=torch.finfo(u.dtype).tiny)

    def normal(self, theta: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """(log θ − mean) / sd."""
        return (theta.clamp(min=torch.finfo(theta.dtype).tiny).log() - self.mean) / self.sd

    def log_slope(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Log (sd θ)."""
        return self.mean + self.sd * u + math.log(self.sd)

    @property
    def support(self) -> tuple[float, float]:
        """What float64 can tell from 0."""
        return torch.finfo(torch.float64).tiny, math.inf


@dataclass(frozen=True)
class Positive(Marginal):
    """A Gaussian bent at 0 so that it stays above: θ = bend · softplus((mean + sd u) / bend).

    Beyond a few bends θ is linear in u, so that errors stay as they are in θ; nearer they shrink.
    """

    mean: float
    sd: float
    bend: float

    def __post_init__(self) -> None:
        if not (self.sd > 0 and self.bend > 0):
            raise ValueError(f"sd is {self.sd} and bend {self.bend}; expected positive numbers")

    def theta(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Bend · log(1 + exp((mean + sd u) / bend)), never 0."""
        bent = torch.logaddexp((self.mean + self.sd * u) / self.bend, torch.zeros_like(u))
        return (self.bend * bent).clamp(min=torch.finfo(u.dtype).tiny)

    def normal(self, theta: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """(bend · log(exp(θ / bend) − 1) − mean) / sd."""
        ratio = theta.clamp(min=torch.finfo(theta.dtype).tiny) / self.bend
        return (self.bend * (ratio + (-torch.expm1(-ratio)).log()) - self.mean) / self.sd

    def log_slope(self, u: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Log sd, and of the logistic function."""
        ratio = (self.mean + self.sd * u) / self.bend
        return math.log(self.sd) + torch.nn.functional.logsigmoid(ratio)

    @property
    def support(self) -> tuple[float, float]:
        """What float64 can tell from 0."""
        return torch.finfo(torch.float64).tiny, math.inf


class Prior(ABC):
    """A joint prior of named parameters: θ = f(u) for u ~ N(0, I). All tensors are float64."""

    names: tuple[str, ...]

    @abstractmethod
    def theta(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """f(u)."""

    @abstractmethod
    def normal(self, theta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The inverse of f."""

    @abstractmethod
    def log_slope(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """log |det df/du|."""

    @abstractmethod
    def outside(self, theta: Float[Tensor, "*B D"]) -> Bool[Tensor, "*B D"]:
        """Which values the prior excludes."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What `prior_from` makes the same prior of; JSON."""

    def support(self, parameter: int) -> tuple[float, float]:
        """Lowest and highest value of a parameter."""
        ends = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
        low, high = self.theta(ends[:, None].expand(2, len(self.names)))[:, parameter].tolist()
        return low, high

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "{n} D"]:
        """Random parameters."""
        rng = torch.Generator().manual_seed(seed)
        return self.theta(torch.randn(n, len(self.names), generator=rng, dtype=torch.float64))

    def log_prob(self, theta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """Log density in nats; −∞ outside."""
        u = self.normal(theta)
        density = _log_normal(u).sum(-1) - self.log_slope(u)
        return torch.where(self.outside(theta).any(-1), -math.inf, density)

    def check(self, theta: Float[Tensor, "B D"]) -> None:
        """Refuses parameters that the prior excludes.

        Raises:
            ValueError: Naming the first row, its parameter and the range.
        """
        if theta.shape[1] != len(self.names):
            raise ValueError(
                f"theta has {theta.shape[1]} columns; the prior has {len(self.names)} "
                f"parameters: {', '.join(self.names)}"
            )
        bad = self.outside(theta)
        if bad.any():
            row, column = (int(i) for i in bad.nonzero()[0])
            low, high = self.support(column)
            raise ValueError(
                f"the prior excludes {int(bad.any(1).sum())} of {len(theta)} rows, first row "
                f"{row}: {self.names[column]} is {theta[row, column].item():g}, expected {low:g} "
                f"to {high:g}; widen the prior, or leave these rows out"
            )


class IndependentPrior(Prior):
    """Parameters that know nothing of each other."""

    def __init__(self, marginals: Mapping[str, Marginal]):
        """Takes a name and a prior for each parameter, in the order of θ's columns."""
        if not marginals:
            raise ValueError("the prior has no parameters; expected at least one")
        self.marginals = dict(marginals)
        self.names = tuple(marginals)

    def theta(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """f(u)."""
        return self._each("theta", u)

    def normal(self, theta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The inverse of f."""
        return self._each("normal", theta)

    def log_slope(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """log |det df/du|."""
        return self._each("log_slope", u).sum(-1)

    def outside(self, theta: Float[Tensor, "*B D"]) -> Bool[Tensor, "*B D"]:
        """Which values lie beyond their bounds, or are NaN."""
        low, high = (
            torch.tensor(
                [marginal.support for marginal in self.marginals.values()], dtype=theta.dtype
            )
            .to(theta.device)
            .T
        )
        return ~((theta >= low) & (theta <= high))

    def describe(self) -> dict[str, Any]:
        """Kind and numbers of each parameter."""
        return {
            name: {"kind": type(marginal).__name__, **asdict(marginal)}  # type: ignore[call-overload]
            for name, marginal in self.marginals.items()
        }

    def _each(self, method: str, values: Tensor) -> Tensor:
        columns = zip(self.marginals.values(), values.unbind(-1), strict=True)
        return torch.stack([getattr(marginal, method)(column) for marginal, column in columns], -1)


def _log_normal(u: Tensor) -> Tensor:
    return -0.5 * u**2 - 0.5 * math.log(2 * math.pi)
