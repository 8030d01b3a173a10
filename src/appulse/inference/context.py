"""From evidence to one vector per observation that modulates the velocity.

Shapes: B observations, N members of a set, F features, C width of the context.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..flow.velocity import keep_variance
from .evidence import Evidence, Kind


class ContextNetwork(nn.Module):
    """One encoder per block; what is present is summed, what lacks has a learned stand-in.

    Dropout (Srivastava et al. 2014) is on hidden units, never on the evidence itself.
    """

    def __init__(self, kinds: dict[str, Kind], width: int):
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                name: (SetEncoder if kind.is_set else VectorEncoder)(kind.features, width)
                for name, kind in kinds.items()
            }
        )
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in kinds})
        self.out = nn.Sequential(nn.SiLU(), nn.Dropout(0.0), nn.Linear(width, width))
        keep_variance(self)

    def drop(self, share: float) -> None:
        """Sets how many hidden units each row goes without in training."""
        for layer in self.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = share

    def learn_scales(self, evidence: Evidence) -> None:
        """Fits the standardisation of each block to the rows that have it."""
        for name, encoder in self.encoders.items():
            standardise: Any = encoder.standardise
            standardise.learn(evidence.blocks[name][evidence.members[name]])

    def forward(self, evidence: Evidence) -> Float[Tensor, "B C"]:
        """The context of each observation."""
        total: Tensor | int = 0
        for name, encoder in self.encoders.items():
            there = evidence.members[name]
            code = encoder(evidence.blocks[name], there)
            total = total + torch.where(there.any(1)[:, None], code, self.absent[name])
        return self.out(total)


class VectorEncoder(nn.Module):
    """An MLP on standardised features."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.standardise = Standardise(features)
        self.mlp = _mlp(features, width)

    def forward(
        self, block: Float[Tensor, "B 1 F"], there: Bool[Tensor, "B 1"]
    ) -> Float[Tensor, "B C"]:
        """One vector per vector."""
        return self.mlp(self.standardise(block[:, 0]))


class SetEncoder(nn.Module):
    """Deep sets (Zaheer et al. 2017): the order of members does not matter, their number does."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.standardise = Standardise(features)
        self.each = _mlp(features, width)
        self.pooled = nn.Sequential(nn.SiLU(), nn.Linear(width + 1, width))

    def forward(
        self, block: Float[Tensor, "B N F"], there: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B C"]:
        """One vector per set."""
        member = self.each(self.standardise(block)) * there[..., None]
        count = there.sum(1, keepdim=True)
        pooled = member.sum(1) / count.clamp(min=1)
        return self.pooled(torch.cat([pooled, count.clamp(min=1).log()], 1))


def _mlp(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.SiLU(), nn.Dropout(0.0), nn.Linear(width, width)
    )


class Standardise(nn.Module):
    """Zero mean and unit variance per feature of the training rows."""

    def __init__(self, features: int):
        super().__init__()
        self.mean: Tensor
        self.sd: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))

    def learn(self, rows: Float[Tensor, "B F"]) -> None:
        """Takes mean and spread; a feature that is constant tells nothing and keeps its unit."""
        self.mean = rows.mean(0)
        sd = rows.std(0, correction=0)
        self.sd = torch.where(sd > 1e-6 * self.mean.abs(), sd, torch.ones_like(sd))

    def forward(self, x: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
        """The features, standardised."""
        return (x - self.mean) / self.sd
