"""The highest point of a density, found along its gradient.

Shapes: B observations, S samples, D parameters.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 15
SHORTER = 0.25  # of a step that led down
ENOUGH = 1e-4  # nats; who gains less has arrived

Density = Callable[[Tensor], Tensor]  # (B, S, D) → (B, S), differentiable


def find_peak(log_density: Density, samples: Float[Tensor, "B S D"]) -> Float[Tensor, "B D"]:
    """Where `log_density` is highest, starting from the best of its samples.

    BFGS (Nocedal & Wright 2006, eq. 6.17), each observation with its own steps. The samples'
    covariance stands for the inverse Hessian at first: if the density is Gaussian, the first step
    arrives. The search ends one standard deviation beyond the samples, where nothing was learned.
    """
    with torch.no_grad():
        best = log_density(samples).argmax(1)
    x = samples[torch.arange(len(samples)), best]
    spread = samples.std(1)
    low, high = samples.amin(1) - spread, samples.amax(1) + spread
    inverse, length = _covariance(samples), torch.ones_like(x[:, :1])
    value, slope = _rise(log_density, x)
    for _ in range(ROUNDS):
        tried = (x + length * _times(inverse, slope)).clamp(low, high)
        new_value, new_slope = _rise(log_density, tried)
        better = new_value > value
        bent = _updated(inverse, tried - x, slope - new_slope)
        inverse = torch.where(better[..., None], bent, inverse)
        length = torch.where(better, torch.ones_like(length), SHORTER * length)
        arrived = better & (new_value - value < ENOUGH)
        x, value = torch.where(better, tried, x), torch.where(better, new_value, value)
        slope = torch.where(better, new_slope, slope)
        if arrived.all():
            break
    return x


def _rise(log_density: Density, x: Float[Tensor, "B D"]) -> tuple[Tensor, Tensor]:
    """Log density (B, 1) and its gradient (B, D)."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        value = log_density(point[:, None])
        (slope,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), slope


def _covariance(samples: Float[Tensor, "B S D"]) -> Float[Tensor, "B D D"]:
    away = samples - samples.mean(1, keepdim=True)
    jitter = 1e-12 * torch.eye(samples.shape[2], dtype=samples.dtype)
    return away.mT @ away / samples.shape[1] + jitter


def _updated(
    inverse: Float[Tensor, "B D D"], step: Float[Tensor, "B D"], change: Float[Tensor, "B D"]
) -> Float[Tensor, "B D D"]:
    """The inverse Hessian after a step that changed the gradient; as it was if not concave."""
    along = (step * change).sum(1)[:, None, None]
    concave = along > 1e-12
    rate = 1 / torch.where(concave, along, torch.ones_like(along))
    outer = step[:, :, None] * change[:, None]
    without = torch.eye(step.shape[1], dtype=step.dtype) - rate * outer
    bent = without @ inverse @ without.mT + rate * step[:, :, None] * step[:, None]
    return torch.where(concave, bent, inverse)


def _times(matrix: Float[Tensor, "B D D"], vector: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    return (matrix @ vector[..., None])[..., 0]
