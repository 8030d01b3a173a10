"""Several estimators of one posterior as one: their mixture.

Shapes: B observations, S samples, D parameters.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .estimator import Condition, Estimator


def carry(
    members: Sequence[Estimator],
    noise: Float[Tensor, "B S D"],
    conditions: Sequence[Condition],
    drawn: Int[Tensor, "B"],
) -> Float[Tensor, "B S D"]:
    """Noise to u; the members take turns.

    Args:
        conditions: What each member makes of the observations.
        drawn: How many samples there were before each row's: whose turn it is.
    """
    u, count = torch.empty_like(noise), len(members)
    for turn in (drawn % count).unique().tolist():
        rows = (drawn % count == turn).nonzero()[:, 0].to(noise.device)
        for k in range(min(count, noise.shape[1])):
            one = (turn + k) % count
            part = noise[rows, k::count]
            u[rows, k::count] = members[one].sample(part, conditions[one].take(rows))
    return u


def log_mean_density(
    members: Sequence[Estimator], u: Float[Tensor, "B S D"], conditions: Sequence[Condition]
) -> Float[Tensor, "B S"]:
    """Log of the members' mean density of u, in nats; differentiable."""
    each = [
        member.log_prob(u, condition) for member, condition in zip(members, conditions, strict=True)
    ]
    return torch.logsumexp(torch.stack(each).double(), 0) - math.log(len(each))
