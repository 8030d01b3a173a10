"""The velocity network V(x, t | context) and the loss that teaches it.

Shapes: B batch, D width of the data, C width of the context, W width of the network,
M width of the condition.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .path import LinearPath, Path


@dataclass(frozen=True)
class VelocityConfig:
    """Size of a velocity network."""

    dim: int  # of the data
    context: int = 0  # width of the context; 0 for unconditional flows
    width: int = 128
    depth: int = 4
    condition: int = 64  # width of what time and context are mixed to
    frequencies: int = 16  # of the time features


class VelocityNetwork(nn.Module):
    """Residual MLP modulated by time and context (after Peebles & Xie 2023).

    Modulation does not see x, so many samples of one observation cost one modulation row per
    step. The outputs start at zero: what is learned is the difference to `rate(t) x`, the exact
    field if the data were N(0, I), so an untrained flow maps N(0, I) to itself. The blocks do not
    (theirs would be adaLN-zero): where the data are nearly N(0, I), as after a regression, both at
    zero are a saddle that training leaves after thousands of steps.
    """

    def __init__(self, config: VelocityConfig, path: Path | None = None):
        super().__init__()
        self.config = config
        self.path = path or LinearPath()
        width, condition = config.width, config.condition
        self.frequency: Tensor
        octaves = torch.linspace(-2, 3, config.frequencies)
        self.register_buffer("frequency", 2 * math.pi * 2**octaves, persistent=False)
        self.embed_time = nn.Linear(2 * config.frequencies + 1, condition)
        self.embed_context = (
            nn.Linear(config.context, condition, bias=False) if config.context else None
        )
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(condition, condition), nn.SiLU())
        self.embed = nn.Linear(config.dim, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, condition) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, config.dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        keep_variance(self.mix)
        if self.embed_context is not None:
            keep_variance(self.embed_context)

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        t: Float[Tensor, "*T"],
        context: Float[Tensor, "*S C"] | None = None,
    ) -> Float[Tensor, "*B D"]:
        """The velocity of x; times and contexts broadcast against the rows of x.

        Raises:
            ValueError: If x or the context has another width than the network.
        """
        self._check(x, context)
        condition = self.embed_time(self._time_features(t))
        if self.embed_context is not None:
            condition = condition + self.embed_context(context)
        condition = self.mix(condition)
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.path.gaussian_rate(t)[..., None] * x + self.out(self.norm(h))

    def _time_features(self, t: Tensor) -> Tensor:
        phase = t[..., None] * self.frequency
        return torch.cat([phase.sin(), phase.cos(), t[..., None]], -1)

    def _check(self, x: Tensor, context: Tensor | None) -> None:
        given = 0 if context is None else context.shape[-1]
        if (x.shape[-1], given) != (self.config.dim, self.config.context):
            raise ValueError(
                f"x has width {x.shape[-1]} and the context {given}; this network was built for "
                f"{self.config.dim} and {self.config.context}"
            )


class ModulatedBlock(nn.Module):
    """Pre-norm residual MLP whose scale, shift and gate come from a condition."""

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(condition, 3 * width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(
        self, h: Float[Tensor, "*B W"], condition: Float[Tensor, "*C M"]
    ) -> Float[Tensor, "*B W"]:
        """The features, changed."""
        scale, shift, gate = self.modulate(condition).chunk(3, -1)
        inner = self.inner(torch.addcmul(shift, self.norm(h), 1 + scale))
        return torch.addcmul(h, 1 + gate, self.outer(F.silu(inner)))


def keep_variance(network: nn.Module) -> None:
    """Starts linear layers so that signals leave them as large as they came (LeCun et al. 1998).

    torch's own start leaves a third of the variance, and adds constants: six layers on, little is
    left of what tells one context from another.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_times(
    n: int, power: float = 0.0, device: torch.device | None = None
) -> Float[Tensor, "n"]:
    """Stratified random times with density ∝ t^power; later ones decide about the details.

    The power-law time prior of Wildberger et al. (2023), section 3.2.
    """
    even = (torch.arange(n, device=device) + torch.rand(n, device=device)) / n
    return even[torch.randperm(n, device=device)] ** (1 / (1 + power))


def matching_loss(
    network: VelocityNetwork,
    data: Float[Tensor, "B D"],
    noise: Float[Tensor, "B D"],
    t: Float[Tensor, "B"],
    context: Float[Tensor, "B C"] | None = None,
) -> Float[Tensor, "B"]:
    """Conditional flow matching, eq. 9 of Lipman et al. (2023), per row; averaged over D.

    Its minimum is the marginal velocity, because a mean minimises squared errors.
    """
    path = network.path
    velocity = network(path.point(data, noise, t), t, context)
    return (velocity - path.displacement(data, noise, t)).square().mean(-1)
