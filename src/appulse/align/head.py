"""From the tokens of a tower to one vector in the shared space.

Shapes: B galaxies, T tokens, E token width, F features, H heads, W head width, D embedding.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..transformer import MLP, Attention, ReadBlock
from .whitening import Whitening


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a head that reads tokens and physical features."""

    width: int = 256
    depth: int = 2
    heads: int = 4
    embedding: int = 64


@dataclass(frozen=True)
class PoolConfig:
    """Sizes of AstroCLIP's head; the defaults are those of its spectrum tower."""

    width: int = 1024
    heads: int = 4
    residual: bool = True  # the published image tower has none


class Head(nn.Module):
    """Attention pooling: a query reads the tokens and becomes the embedding.

    The query is learned, plus a projection of physical features (fluxes, a redshift): what they
    say needs no detour through attention, and the tokens add what they lack.
    """

    def __init__(self, config: HeadConfig, features: int, token_width: int):
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(config.width))
        self.whiten = Whitening(features)
        self.embed_features = nn.Linear(features, config.width)
        self.blocks = nn.ModuleList(
            ReadBlock(config.width, config.heads, token_width) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.embedding)

    def forward(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        x = self._query(features)
        for block in self.blocks:
            x = block(x, tokens)
        return self.project(self.norm(x))

    def attention(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B H T"]:
        """What share of its reading each head spends on each token, the mean over blocks."""
        x, weights = self._query(features), []
        for block in cast("list[ReadBlock]", list(self.blocks)):
            weights.append(block.weights(x, tokens))
            x = block(x, tokens)
        return torch.stack(weights).mean(0)

    def _query(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B W"]:
        with torch.autocast(features.device.type, enabled=False):  # small differences count
            return self.embed_features(self.whiten(features)) + self.query


class AttentionPool(nn.Module):
    """AstroCLIP's head: a learned query gathers the tokens, then an MLP (Parker et al. 2024).

    It takes features to be called as `Head` is, and ignores them.
    """

    def __init__(self, config: PoolConfig, token_width: int):
        super().__init__()
        self.residual = config.residual
        self.query = nn.Parameter(torch.randn(config.width))
        self.gather = Attention(config.width, config.heads, token_width)
        self.norm = nn.LayerNorm(config.width)
        self.mlp = MLP(config.width)

    def forward(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        x = self.norm(self.gather.read(self.query, tokens))
        change = self.mlp(x)
        return x + change if self.residual else change

    def attention(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B H T"]:
        """The softmax weights of the pooling; each head's sum to 1."""
        query = self.query.expand(len(tokens), 1, -1)
        return self.gather.weights(query, tokens)[:, :, 0]


class TokenMean(nn.Module):
    """No head: the mean over tokens, as AstroCLIP uses a spectrum transformer on its own."""

    def forward(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B E"]:
        """Embeddings, not normalised."""
        return tokens.mean(1)


class FirstToken(nn.Module):
    """No head: the class token, as DINOv2 is used."""

    def forward(
        self, features: Float[Tensor, "B F"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B E"]:
        """Embeddings, not normalised."""
        return tokens[:, 0]
