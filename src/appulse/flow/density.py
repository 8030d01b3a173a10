"""Samples and log densities of a flow: noise carried along the velocity, and back.

Shapes: B batch, D width of the data.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .ode import Field, Rows, solve

EXACT_TRACE = 16  # widest data whose divergence is summed term by term


def invert(
    field: Field,
    x: Float[Tensor, "*B D"],
    *,
    method: str = "midpoint",
    steps: int = 16,
    tolerance: float = 1e-5,
) -> Float[Tensor, "*B D"]:
    """The noise that the flow carries to x."""
    return solve(field, x, 1.0, 0.0, method=method, steps=steps, tolerance=tolerance)


def standard_normal(noise: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """Log density of N(0, I) in nats."""
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)


def log_density(
    field: Field,
    x: Float[Tensor, "*B D"],
    *,
    method: str = "rk4",
    steps: int = 16,
    tolerance: float = 1e-5,
    probes: int | None = None,
    generator: torch.Generator | None = None,
    exact_up_to: int = EXACT_TRACE,
    log_noise: Callable[[Tensor], Tensor] = standard_normal,
) -> Float[Tensor, "*B"]:
    """log p(x) in nats: log p(noise) − ∫ div V dt (Chen et al. 2018, theorem 1).

    Args:
        probes: Random vectors of Hutchinson's trace estimator (Grathwohl et al. 2019), whose
            noise falls as 1 / √probes; None sums the D terms exactly up to some D, and takes
            one probe above.
        generator: Of the probes.
        exact_up_to: That D.
        log_noise: Log density of the noise, N(0, I) unless given.
    """
    width = x.shape[-1]
    if probes is None and width > exact_up_to:
        probes = 1
    directions = _basis(x) if probes is None else _probes(x, probes, generator)
    weight = 1.0 if probes is None else 1.0 / probes

    def augmented(state: Tensor, t: Tensor, rows: Rows) -> Tensor:
        velocity, divergence = _divergence(field, state[..., :-1], t, rows, directions)
        return torch.cat([velocity, weight * divergence[..., None]], -1)

    start = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
    end = solve(augmented, start, 1.0, 0.0, method=method, steps=steps, tolerance=tolerance)
    noise, change = end[..., :-1], end[..., -1]
    return log_noise(noise) + change


def _divergence(
    field: Field, x: Tensor, t: Tensor, rows: Rows, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """V and Σ_k e_k · (∂V/∂x) e_k over the directions e_k, by forward-mode derivatives."""

    def push(direction: Tensor) -> tuple[Tensor, Tensor]:
        along = direction[rows] if direction.ndim > 1 else direction.expand_as(x)
        moved: Any = torch.func.jvp(lambda y: field(y, t, rows), (x,), (along,))
        return moved[0], (along * moved[1]).sum(-1)

    all_at_once: Any = torch.func.vmap
    velocity, terms = all_at_once(push, out_dims=(None, 0))(directions)
    return velocity, terms.sum(0)


def _basis(x: Tensor) -> Float[Tensor, "D D"]:
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _probes(x: Tensor, n: int, generator: torch.Generator | None) -> Float[Tensor, "K *B D"]:
    """Random signs, the same ones along the whole way, so that the ODE stays smooth."""
    place = generator.device if generator else x.device
    signs = torch.randint(0, 2, (n, *x.shape), generator=generator, device=place)
    return (2 * signs - 1).to(x)
