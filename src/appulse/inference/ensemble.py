"""Several estimators of one posterior as one: their mixture.

Shapes: B observations, S samples, D parameters.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .estimator import Condition, Estimator
from .evidence import Evidence
from .noise import fit_noise


def learn_noise(
    members: Sequence[Estimator],
    u: Float[Tensor, "B D"],
    evidence: Evidence,
    pull: Float[Tensor, "B P D"] | None,
    held: Bool[Tensor, "M B"],
) -> None:
    """Fits the noise of trained members to rows, of which each did not learn from some (`held`)."""
    for subset, blocks, rows in evidence.subsets():
        if rows.any():
            part = evidence[rows].keep(blocks.expand(int(rows.sum()), -1))
            some = (u[rows], part, None if pull is None else pull[rows])
            noise = torch.stack([member.carry_back(*some) for member in members])
            means, scale = fit_noise(noise, held[:, rows])
            for member, mean in zip(members, means, strict=True):
                member.noise.set(subset, mean, scale)


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
