"""The projection that self-distillation compares: an MLP onto prototypes (DINO, Caron et al. 2021).

Shapes: B tokens, D width, K prototypes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class DinoHeadConfig:
    """Sizes of the head; the defaults are AstroDINO's."""

    prototypes: int = 65_536
    hidden: int = 2048
    bottleneck: int = 256


class DinoHead(nn.Module):
    """Three layers, unit length, then cosines with prototypes of learned length."""

    def __init__(self, config: DinoHeadConfig, width: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.direction = nn.Parameter(torch.empty(config.prototypes, config.bottleneck))
        self.length = nn.Parameter(torch.ones(config.prototypes))
        nn.init.trunc_normal_(self.direction, std=0.02)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Logits over prototypes."""
        x = F.normalize(self.mlp(x), dim=-1)
        return F.linear(x, self.length[:, None] * F.normalize(self.direction, dim=-1))
