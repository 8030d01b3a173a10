"""Convolutions and attention on spectra (Serrà et al. 2018; Melchior et al. 2023, spender).

The supervised baseline of AstroCLIP. Shapes: B spectra, L wavelength pixels, P outputs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ConvAttConfig:
    """Sizes; the defaults are AstroCLIP's."""

    channels: tuple[int, ...] = (8, 16, 16, 32)  # of the convolutions; half of the last attend
    kernels: tuple[int, ...] = (5, 10, 20, 40)  # pixels; pooled by as many, but the last
    hidden: tuple[int, ...] = (32, 32)


class ConvAtt(nn.Module):
    """Outputs of spectra: features where attention looks, through a small MLP."""

    def __init__(self, config: ConvAttConfig, outputs: int, planes: int = 1, extra: int = 0):
        super().__init__()
        self.kernels = config.kernels
        sizes = (planes, *config.channels)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, after, kernel, padding=kernel // 2),
                nn.InstanceNorm1d(after),
                nn.PReLU(after),
            )
            for before, after, kernel in zip(sizes, sizes[1:], config.kernels, strict=False)
        )
        layers: list[nn.Module] = []
        before = sizes[-1] // 2 + extra
        for after in config.hidden:
            layers += [nn.Linear(before, after), nn.PReLU(after)]
            before = after
        self.mlp = nn.Sequential(*layers, nn.Linear(before, outputs))

    def forward(
        self, x: Float[Tensor, "B C L"], extra: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B P"]:
        """Outputs."""
        for conv, kernel in zip(self.convs[:-1], self.kernels, strict=False):
            x = F.max_pool1d(conv(x), kernel, padding=kernel // 2)
        values, scores = self.convs[-1](x).chunk(2, dim=1)
        attended = (values * scores.softmax(dim=2)).sum(dim=2)
        return self.mlp(torch.cat([attended, extra], dim=1))
