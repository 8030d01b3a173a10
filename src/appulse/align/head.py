"""From the tokens of a tower to one vector in the shared space.

Shapes: B galaxies, T tokens, E token width, F features, W head width, D embedding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..transformer import ReadBlock


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of an alignment head."""

    width: int = 256
    depth: int = 2
    heads: int = 4
    embedding: int = 64


class Head(nn.Module):
    """Attention pooling: a query reads the tokens and becomes the embedding.

    The query is learned, plus a projection of physical features (fluxes, a redshift): what they
    say needs no detour through attention, and the tokens add what they lack.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: HeadConfig, features: int, token_width: int):
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(config.width))
        self.embed_features = nn.Linear(features, config.width)
        self.blocks = nn.ModuleList(
            ReadBlock(config.width, config.heads, token_width) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.embedding)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def standardise(self, features: Float[Tensor, "N F"]) -> None:
        """Takes mean and scatter of the features from a training set."""
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp(min=1e-6))

    def forward(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        x = self.embed_features((features - self.mean) / self.std) + self.query
        x = x[:, None]
        for block in self.blocks:
            x = block(x, tokens)
        return self.project(self.norm(x))[:, 0]
