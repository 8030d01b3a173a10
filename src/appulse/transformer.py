"""Attention, blocks and positions, for images and spectra alike (Vaswani et al. 2017).

Shapes: B batch, T tokens, Q queries, D width, H heads.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

MANY = 400  # tokens from which the fused kernel pays in float32, whatever multiplies


def attend(
    query: Float[Tensor, "B H Q d"],
    key: Float[Tensor, "B H T d"],
    value: Float[Tensor, "B H T d"],
    causal: bool = False,
) -> Float[Tensor, "B H Q d"]:
    """Softmax attention, perhaps to the past only: the fused kernel, or plain products on a CPU.

    There the fused kernel computes bfloat16 in float32; plain products train six times as fast at
    tens of tokens, and 1.3 times at the published 778. In float32, with the products of
    `device.fast_products`, it takes four times as long at 36 tokens, as long at 400, and .6 of the
    time at 778 (benchmarks/attention.py).
    """
    few = key.shape[-2] < MANY
    plain = query.dtype == torch.bfloat16 or (few and _products_are_fast())
    if plain and query.device.type == "cpu":
        logits = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1)
        if causal:
            future = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
            logits = logits.masked_fill(future, -math.inf)
        return logits.softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


def _products_are_fast() -> bool:
    return torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]


class Attention(nn.Module):
    """Multi-head attention of `x` over `tokens`, or over itself; there perhaps the past only."""

    def __init__(
        self, width: int, heads: int, token_width: int | None = None, causal: bool = False
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(token_width or width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B Q D"], tokens: Float[Tensor, "B T E"] | None = None
    ) -> Float[Tensor, "B Q D"]:
        """What each row of `x` gathers from the tokens, or from `x` itself."""
        query, key, value = self._heads(x, x if tokens is None else tokens)
        mixed = attend(query, key, value, self.causal)
        return self.project(rearrange(mixed, "B H Q d -> B Q (H d)"))

    def read(
        self, query: Float[Tensor, "*#B D"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B D"]:
        """What one query a row, or one for all, gathers: `forward`, without keys and values.

        A score q·(K x + b) is (Kᵀq)·x and a constant, which the softmax ignores; a mean of values
        V x + b is V times the mean of x, and b. So K meets the query and V the mean of tokens, not
        each token (benchmarks/speed.py).
        """
        key, value = rearrange(self.key_value.weight, "(n H d) E -> n H d E", n=2, H=self.heads)
        heads = rearrange(self.query(query), "... (H d) -> ... H d", H=self.heads)
        asked = torch.einsum("... H d, H d E -> ... H E", heads, key)
        scores = asked @ tokens.transpose(1, 2) / math.sqrt(key.shape[1])
        mean = scores.softmax(-1) @ tokens
        mixed = torch.einsum("B H E, H d E -> B H d", mean, value)
        bias = self.key_value.bias.chunk(2)[1]
        return self.project(rearrange(mixed, "B H d -> B (H d)") + bias)

    def weights(
        self, x: Float[Tensor, "B Q D"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B H Q T"]:
        """The softmax weights that `forward` mixes values with; they sum to 1 over T."""
        query, key, _ = self._heads(x, tokens)
        return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1)

    def _heads(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        query, key, value = (
            rearrange(t, "B T (H d) -> B H T d", H=self.heads) for t in (self.query(x), key, value)
        )
        return query, key, value


class MLP(nn.Sequential):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, expansion: int = 4):
        super().__init__(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (Touvron et al. 2021, CaiT)."""

    def __init__(self, width: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The branch, scaled."""
        return self.gamma * x


class StochasticDepth(nn.Module):
    """Leaves a residual branch out for random rows while training (Huang et al. 2016)."""

    def __init__(self, probability: float = 0.0):
        super().__init__()
        self.probability = probability

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The branch, scaled up where it is kept, so that its mean stays."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * (torch.rand(len(x), 1, 1, device=x.device) < keep) / keep


class Block(nn.Module):
    """Pre-norm transformer block: tokens look at each other, then each by itself."""

    def __init__(
        self,
        width: int,
        heads: int,
        layer_scale: float | None = None,
        norm_eps: float = 1e-5,
        causal: bool = False,
    ):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, norm_eps)
        self.attention = Attention(width, heads, causal=causal)
        self.norm_mlp = nn.LayerNorm(width, norm_eps)
        self.mlp = MLP(width)
        self.scale_attention, self.scale_mlp = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
            for _ in range(2)
        )
        self.drop = StochasticDepth()

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The tokens, changed."""
        x = x + self.drop(self.scale_attention(self.attention(self.norm_attention(x))))
        return x + self.drop(self.scale_mlp(self.mlp(self.norm_mlp(x))))


class ReadBlock(nn.Module):
    """Pre-norm block in which a row's query reads from its tokens, which it does not change.

    The attention's output starts at zero: what the query brings along passes unharmed until the
    tokens have something to add.
    """

    def __init__(self, width: int, heads: int, token_width: int):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(token_width)
        self.attention = Attention(width, heads, token_width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)
        nn.init.zeros_(self.attention.project.weight)

    def forward(
        self, x: Float[Tensor, "B D"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B D"]:
        """The queries, changed."""
        x = x + self.attention.read(self.norm_attention(x), self.norm_tokens(tokens))
        return x + self.mlp(self.norm_mlp(x))

    def weights(
        self, x: Float[Tensor, "B D"], tokens: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B H T"]:
        """The softmax weights with which each query reads the tokens."""
        query = self.norm_attention(x)[:, None]
        return self.attention.weights(query, self.norm_tokens(tokens))[:, :, 0]


def sincos_position(
    position: Float[Tensor, "*T"], width: int, shortest: float, longest: float
) -> Float[Tensor, "*T {width}"]:
    """Sines and cosines of a coordinate at `width / 2` wavelengths from shortest to longest.

    Two coordinates of an image take half of the width each. The unit is the coordinate's own, so
    that tokens of another instrument get the position of what they see.
    """
    if width % 2:
        raise ValueError(f"width {width} must be even: half sines, half cosines")
    wavelength = torch.logspace(
        math.log10(shortest), math.log10(longest), width // 2, device=position.device
    )
    phase = (2 * torch.pi * position[..., None] / wavelength).float()
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
