"""Residuals of which most are small and a few are large, as a map to a normal distribution.

Shapes: `*B` residuals, all in float64 inside.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 200  # of expectation-maximisation
HALVINGS = 40  # of the interval that holds a root
FARTHEST = 30.0  # wide standard deviations: Φ still is a number there
LOG_ROOT = 0.5 * math.log(2 * math.pi)


class Mixture(NamedTuple):
    """(1 − share) N(0, core²) + share N(0, wide²); without a share, what is given is returned."""

    core: Float[Tensor, "*#B"]
    wide: Float[Tensor, "*#B"]
    share: Float[Tensor, "*#B"]

    def normal(self, rest: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The normal quantile of each residual: Φ⁻¹ F(rest)."""
        if not (self.share > 0).any():
            return rest
        tail = self._tail(rest.double().abs()).clamp(min=1e-300)
        mapped = -torch.special.ndtri(tail) * rest.sign()
        return torch.where(self.share > 0, mapped.to(rest), rest)

    def residual(self, normal: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The inverse, by halving the logarithm of where it must lie."""
        if not (self.share > 0).any():
            return normal
        core, wide, share, size = torch.broadcast_tensors(*self, normal.double().abs())
        mixed = share > 0
        one = Mixture(core[mixed], wide[mixed], share[mixed])
        goal = _beyond(size[mixed])
        low, high = one.core * size[mixed], one.wide * size[mixed]
        for _ in range(HALVINGS):
            middle = (low * high).sqrt()
            beyond = one._tail(middle) > goal
            low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
        out = normal.clone()
        out[mixed] = ((low * high).sqrt() * normal[mixed].sign()).to(normal)
        return out

    def log_slope(self, rest: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """log d normal / d rest."""
        if not (self.share > 0).any():
            return torch.zeros_like(rest)
        quantile = self.normal(rest.double())
        slope = self.log_density(rest) + 0.5 * quantile**2 + LOG_ROOT
        return torch.where(self.share > 0, slope, 0.0).to(rest)

    def log_density(self, rest: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Of residuals, in nats."""
        rest = rest.double()
        small = torch.log1p(-self.share) + _log_normal(rest, self.core)
        return torch.logaddexp(small, self.share.log() + _log_normal(rest, self.wide))

    def _tail(self, size: Tensor) -> Tensor:
        """Chance of a larger residual of that sign."""
        size = torch.minimum(size, FARTHEST * self.wide)
        small, large = _beyond(size / self.core), _beyond(size / self.wide)
        return (1 - self.share) * small + self.share * large


def fit_mixture(rest: Float[Tensor, "B"]) -> Mixture:
    """The most likely mixture, by expectation-maximisation from the quartiles on."""
    rest = rest.double()
    core = rest.abs().median().clamp(min=1e-9) / 0.6745
    mixture = Mixture(core, torch.maximum(rest.std(), 3 * core), torch.tensor(0.05).double())
    for _ in range(ROUNDS):
        large = mixture.share.log() + _log_normal(rest, mixture.wide)
        weight = (large - mixture.log_density(rest)).exp()
        share = weight.mean().clamp(1e-4, 0.5)
        core, wide = (_spread(rest, w).clamp(min=1e-9) for w in (1 - weight, weight))
        mixture = Mixture(core, torch.maximum(wide, 2 * core), share)
    return mixture


def _spread(rest: Tensor, weight: Tensor) -> Tensor:
    return (weight @ rest**2 / weight.sum().clamp(min=1e-9)).sqrt()


def _beyond(size: Tensor) -> Tensor:
    """1 − Φ, exact far out, where torch's `ndtr` is not."""
    return 0.5 * torch.erfc(size / math.sqrt(2))


def _log_normal(rest: Tensor, sd: Tensor) -> Tensor:
    return -0.5 * (rest / sd) ** 2 - sd.log() - LOG_ROOT
