"""Neural spline flow, elementwise: the posterior of AstroCLIP, here a baseline.

A stack of monotonic rational-quadratic splines (Durkan et al. 2019) from noise N(0, 1) to each
parameter on its own: parameters are independent given the context.

Shapes: B galaxies, V for validation, D parameters, C context, K bins, E their edges, K + 1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..tasks.network import learn, mlp
from ..tasks.targets import Scale

LEAST = 1e-3  # of a bin's width and height as parts of the whole, and of a slope


class Knots(NamedTuple):
    """A spline of each parameter: the identity outside [-bound, bound]."""

    x: Float[Tensor, "B D E"]  # on the side of the noise
    y: Float[Tensor, "B D E"]
    slope: Float[Tensor, "B D E"]


class Splines(NamedTuple):
    """Densities of the parameters of some galaxies, each on its own."""

    stack: list[Knots]

    def log_prob(self, theta: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Log density of each parameter; their sum is the joint one."""
        log_slope = torch.zeros_like(theta)
        for knots in reversed(self.stack):
            theta, gain = _from_data(theta, knots)
            log_slope = log_slope + gain
        return -0.5 * (theta**2 + math.log(2 * math.pi)) - log_slope

    def transform(self, noise: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Parameters, from noise N(0, 1)."""
        for knots in self.stack:
            noise = _from_noise(noise, knots)
        return noise


class SplineFlow(nn.Module):
    """From context to densities; the defaults are those of AstroCLIP's code."""

    def __init__(
        self,
        context: int,
        parameters: int,
        hidden: Sequence[int] = (64, 64),
        splines: int = 2,
        bins: int = 8,
        bound: float = 3.0,
    ):
        super().__init__()
        self.shape, self.bound = (parameters, bins), bound
        sizes = [context, *hidden, parameters * (3 * bins - 1)]
        self.nets = nn.ModuleList(mlp(sizes, nn.ReLU) for _ in range(splines))

    def forward(self, context: Float[Tensor, "B C"]) -> Splines:
        """Densities given the context."""
        return Splines([self._knots(net(context)) for net in self.nets])

    def _knots(self, outputs: Float[Tensor, "B _"]) -> Knots:
        (d, k), bound = self.shape, self.bound
        width, height, slope = (
            x.reshape(len(outputs), d, -1) for x in outputs.split([d * k, d * k, d * (k - 1)], 1)
        )
        return Knots(
            _cumulative(width.softmax(-1), bound),
            _cumulative(height.softmax(-1), bound),
            F.pad(F.softplus(slope) + LEAST, (1, 1), value=1 - LEAST),  # as pyro has it
        )


class SplinePosterior:
    """p(θ | features): the flow on standardised features and parameters."""

    def __init__(self, flow: SplineFlow, scale: Scale, theta_scale: Scale):
        self._flow, self._scale, self._theta_scale = flow, scale, theta_scale

    @classmethod
    def fit(
        cls,
        x: Float[np.ndarray, "B C"],
        theta: Float[np.ndarray, "B D"],
        x_val: Float[np.ndarray, "V C"],
        theta_val: Float[np.ndarray, "V D"],
        seed: int = 0,
    ) -> "SplinePosterior":
        """Maximum likelihood on x and θ, all finite; stops early on x_val and theta_val."""
        scale, theta_scale = Scale.of(x), Scale.of(theta)
        train, validation = (
            (_tensor(scale.apply(a)), _tensor(theta_scale.apply(b)))
            for a, b in ((x, theta), (x_val, theta_val))
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            flow = SplineFlow(x.shape[1], theta.shape[1])
            learn(flow, train, validation, lambda p, theta: -p.log_prob(theta).sum(1).mean())
        return cls(flow, scale, theta_scale)

    @torch.inference_mode()
    def log_prob(
        self, theta: Float[np.ndarray, "B D"], x: Float[np.ndarray, "B C"]
    ) -> Float[np.ndarray, "B"]:
        """Joint log density, per unit of each parameter."""
        density = self._flow(_tensor(self._scale.apply(x)))
        log_prob = density.log_prob(_tensor(self._theta_scale.apply(theta))).sum(1)
        return log_prob.double().numpy() - np.log(self._theta_scale.std).sum()

    @torch.inference_mode()
    def sample(
        self, x: Float[np.ndarray, "B C"], n: int, seed: int = 0
    ) -> Float[np.ndarray, "B n D"]:
        """Samples of each galaxy's posterior."""
        shape = (len(x), n, len(self._theta_scale.mean))
        noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()
        density = self._flow(_tensor(self._scale.apply(x)).repeat_interleave(n, 0))
        theta = density.transform(noise.flatten(0, 1)).double().numpy()
        return self._theta_scale.undo(theta).reshape(shape)


def _tensor(x: Float[np.ndarray, "B D"]) -> Float[Tensor, "B D"]:
    return torch.from_numpy(x).float()


def _cumulative(parts: Float[Tensor, "B D K"], bound: float) -> Float[Tensor, "B D E"]:
    parts = LEAST + (1 - LEAST * parts.shape[-1]) * parts
    edges = F.pad(parts.cumsum(-1), (1, 0))
    return bound * (2 * edges / edges[..., -1:] - 1)


class _Bin(NamedTuple):
    """The bin that each value is in: its lower left corner, its size and its slopes."""

    left: Float[Tensor, "B D"]
    width: Float[Tensor, "B D"]
    lower: Float[Tensor, "B D"]
    height: Float[Tensor, "B D"]
    first: Float[Tensor, "B D"]  # slope at the left edge
    last: Float[Tensor, "B D"]

    @classmethod
    def of(cls, value: Float[Tensor, "B D"], edges: Float[Tensor, "B D E"], knots: Knots) -> "_Bin":
        number = torch.searchsorted(edges.detach(), value[..., None]) - 1
        number = number.clamp(0, edges.shape[-1] - 2)
        (x, x1), (y, y1), slopes = (
            (k.gather(-1, number)[..., 0], k.gather(-1, number + 1)[..., 0]) for k in knots
        )
        return cls(x, x1 - x, y, y1 - y, *slopes)


def _from_noise(x: Float[Tensor, "B D"], knots: Knots) -> Float[Tensor, "B D"]:
    """Equation 4 of Durkan et al."""
    bin = _Bin.of(x, knots.x, knots)
    mean, t = bin.height / bin.width, (x - bin.left) / bin.width
    u = t * (1 - t)
    bend = bin.first + bin.last - 2 * mean
    y = bin.lower + bin.height * (mean * t**2 + bin.first * u) / (mean + bend * u)
    return torch.where(_inside(x, knots.x), y, x)


def _from_data(
    y: Float[Tensor, "B D"], knots: Knots
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """The inverse (equations 6 to 8), and the log slope of the spline there (equation 5)."""
    bin = _Bin.of(y, knots.y, knots)
    mean, rise = bin.height / bin.width, y - bin.lower
    bend = bin.first + bin.last - 2 * mean
    a = bin.height * (mean - bin.first) + rise * bend
    b = bin.height * bin.first - rise * bend
    c = -mean * rise
    t = 2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt())
    u = t * (1 - t)
    steep = mean**2 * (bin.last * t**2 + 2 * mean * u + bin.first * (1 - t) ** 2)
    log_slope = steep.log() - 2 * (mean + bend * u).log()
    inside = _inside(y, knots.y)
    return torch.where(inside, bin.left + bin.width * t, y), log_slope.where(inside, 0)


def _inside(at: Float[Tensor, "B D"], edges: Float[Tensor, "B D E"]) -> Bool[Tensor, "B D"]:
    return (at > edges[..., 0]) & (at < edges[..., -1])
