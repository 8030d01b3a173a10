"""A prior cut to a box, for rounds of simulations where an observation needs them."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .correlated import CorrelatedPrior
from .prior import TINY, IndependentPrior, LogNormal, Marginal, Normal, Positive, Prior, Uniform

LEAST = 1e-12  # mass of a box in each parameter; float64 tells few values of a smaller one apart


class EmptyBoxError(ValueError):
    """A box holds next to nothing of the prior."""


class TruncatedPrior(Prior):
    """`prior` inside a box of its u, renormalised; the density's shape inside stays.

    Marginal truncation as in Miller et al. (2021): as the posterior is prior × likelihood, an
    observation whose posterior lies in the box has the same one under this prior.
    """

    def __init__(self, prior: Prior, low: Float[Tensor, "D"], high: Float[Tensor, "D"]):
        """Takes the box in u, where the prior is N(0, I).

        Raises:
            EmptyBoxError: If the box holds no prior mass.
        """
        self.prior, self.low, self.high = prior, low.double().cpu(), high.double().cpu()
        self.names = prior.names
        self._start = torch.special.ndtr(self.low)
        self._range = torch.special.ndtr(self.high) - self._start
        if not (self._range > LEAST).all():
            box = f"from {low.tolist()} to {high.tolist()}"
            raise EmptyBoxError(f"the box {box} holds no prior mass")

    def theta(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The prior's map after the probit map of the box."""
        return self.prior.theta(self._inner(u))

    def normal(self, theta: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The inverse."""
        share = (torch.special.ndtr(self.prior.normal(theta)) - self._start) / self._range
        return torch.special.ndtri(share.clamp(TINY, 1 - TINY))

    def log_slope(self, u: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """Of both maps together."""
        inner = self._inner(u)
        box = (inner**2 - u**2) / 2 + self._range.log()
        return self.prior.log_slope(inner) + box.sum(-1)

    def outside(self, theta: Float[Tensor, "*B D"]) -> Bool[Tensor, "*B D"]:
        """Which values lie beyond the prior or the box."""
        u = self.prior.normal(theta)
        slack = 1e-9 * (self.high - self.low)
        inside = (u >= self.low - slack) & (u <= self.high + slack)
        return ~inside | self.prior.outside(theta)

    def describe(self) -> dict[str, Any]:
        """The prior and the box."""
        box = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"truncated": self.prior.describe(), **box}

    def _inner(self, u: Tensor) -> Tensor:
        share = self._start + self._range * torch.special.ndtr(u)
        inner = torch.special.ndtri(share.clamp(TINY, 1 - TINY))
        return torch.minimum(torch.maximum(inner, self.low), self.high)


def prior_from(description: dict[str, Any]) -> Prior:
    """The prior that `describe` described.

    Raises:
        ValueError: If a parameter is of an unknown kind.
    """
    if _is_marginal(description):
        return IndependentPrior({name: _marginal(name, d) for name, d in description.items()})
    if "truncated" in description:
        low, high = (torch.tensor(description[end]).double() for end in ("low", "high"))
        return TruncatedPrior(prior_from(description["truncated"]), low, high)
    return CorrelatedPrior(description["mean"], description["covariance"], description["names"])


def _is_marginal(description: dict[str, Any]) -> bool:
    """Whether every entry describes a parameter, whatever its name."""
    return all(isinstance(d, dict) for d in description.values())


def _marginal(name: str, numbers: dict[str, Any]) -> Marginal:
    kinds = {kind.__name__: kind for kind in (Uniform, Normal, LogNormal, Positive)}
    kind = kinds.get(str(numbers.get("kind")))
    if kind is None:
        raise ValueError(f"{name} is of kind {numbers.get('kind')!r}; expected {list(kinds)}")
    return kind(**{key: numbers[key] for key in numbers if key != "kind"})
