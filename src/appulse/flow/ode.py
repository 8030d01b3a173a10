"""Solvers for dx/dt = V(x, t): fixed steps for speed, adaptive ones where accuracy is asked for.

Shapes: B batch, D width of the state.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

# A field gets the state of some rows, their times (one for all, or one each, with axes to broadcast
# against the state's leading ones) and which rows of the initial state they are.
Rows = Tensor | slice
Field = Callable[[Tensor, Tensor, Rows], Tensor]

ALL = slice(None)
MAX_STEPS = 1000
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0  # Hairer, Nørsett & Wanner, II.4

# Dormand & Prince (1980), RK5(4)7M
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def solve(
    field: Field,
    x: Float[Tensor, "*B D"],
    start: float = 0.0,
    end: float = 1.0,
    *,
    method: str = "midpoint",
    steps: int = 16,
    tolerance: float = 1e-5,
) -> Float[Tensor, "*B D"]:
    """The state at time `end` of what is x at time `start`, which may be later.

    Args:
        steps: Of midpoint (2 evaluations each) and RK4 (4 evaluations each).
        tolerance: Error allowed per step and row by Dormand-Prince: relative, and absolute below 1.

    Raises:
        ValueError: On an unknown method, or steps or a tolerance that are not positive.
        ArithmeticError: If Dormand-Prince cannot hold the tolerance.
    """
    if steps < 1 or tolerance <= 0:
        raise ValueError(f"steps is {steps} and tolerance {tolerance}; expected positive numbers")
    if method == "dopri5":
        return _dormand_prince(field, x, start, end, tolerance)
    if method not in _FIXED:
        raise ValueError(f"method is {method!r}; expected midpoint, rk4 or dopri5")
    times = torch.linspace(start, end, steps + 1, dtype=x.dtype, device=x.device)
    for t, h in zip(times, times.diff(), strict=False):
        x = x + h * _FIXED[method](field, x, t, h)
    return x


def _midpoint(field: Field, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    return field(x + h / 2 * field(x, t, ALL), t + h / 2, ALL)


def _rk4(field: Field, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    k1 = field(x, t, ALL)
    k2 = field(x + h / 2 * k1, t + h / 2, ALL)
    k3 = field(x + h / 2 * k2, t + h / 2, ALL)
    k4 = field(x + h * k3, t + h, ALL)
    return (k1 + 2 * k2 + 2 * k3 + k4) / 6


_FIXED = {"midpoint": _midpoint, "rk4": _rk4}


def _dormand_prince(field: Field, x: Tensor, start: float, end: float, tolerance: float) -> Tensor:
    """Every row has its own time and step; a row that has arrived costs nothing more."""
    x = x.clone()
    direction = 1.0 if end >= start else -1.0
    time = torch.full(x.shape[:1], start, dtype=x.dtype, device=x.device)
    step = torch.full_like(time, min(0.05, abs(end - start)))
    for _ in range(MAX_STEPS):
        rows = torch.nonzero((end - time) * direction > 0).flatten()
        if not len(rows):
            return x
        h = torch.minimum(step[rows], (end - time[rows]).abs())
        proposal, error = _trial(field, x[rows], time[rows], direction * h, rows)
        size = _relative_size(error, x[rows], proposal, tolerance)
        accepted = size <= 1
        x[rows] = torch.where(_wide(accepted, x), proposal, x[rows])
        arrived = h >= (end - time[rows]).abs()
        moved = torch.where(arrived, torch.full_like(h, end), time[rows] + direction * h)
        time[rows] = torch.where(accepted, moved, time[rows])
        step[rows] = h * (SAFETY * size.clamp(min=1e-10) ** -0.2).clamp(SHRINK, GROW)
    raise ArithmeticError(
        f"{len(rows)} of {len(x)} rows have not arrived after {MAX_STEPS} steps at tolerance "
        f"{tolerance}; the velocity is too steep there: raise the tolerance"
    )


def _trial(field: Field, x: Tensor, t: Tensor, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """One step of fifth order, and its difference to the one of fourth order."""
    wide = _wide(h, x)
    slopes: list[Tensor] = []
    state = x
    for node, weights in zip(_NODES, _STAGES, strict=True):
        state = x + wide * _combine(weights, slopes) if slopes else x
        slopes.append(field(state, _wide(t + node * h, x)[..., 0], rows))
    return state, wide * _combine(_ERROR, slopes)


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return torch.stack(terms).sum(0)


def _relative_size(error: Tensor, x: Tensor, proposal: Tensor, tolerance: float) -> Tensor:
    """Largest error of each row, in units of what is allowed; not finite is far too large."""
    allowed = tolerance * torch.maximum(x.abs(), proposal.abs()).clamp(min=1)
    return (error.abs() / allowed).flatten(1).amax(1).nan_to_num(1e10, posinf=1e10)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.ndim - 1))
