"""Supervised networks: pixels in, properties or classes out, nothing pretrained.

Shapes: B galaxies (V for validation), P outputs, L wavelength pixels; y and x are pixels.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..device import autocast, resolve_device
from ..survey.batches import BatchOrder
from ..tasks.probes import Scale
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder
from .conv_att import ConvAtt, ConvAttConfig
from .resnet import ResNet, ResNetConfig

Pixels = Shaped[np.ndarray, "B ..."]
IMAGE_SOFTENING = 0.01  # nanomaggies per pixel, near the sky noise
FAINTEST = 0.05  # 1e-17 erg/s/cm²/Å; fainter spectra are not blown up


@dataclass(frozen=True)
class SupervisedConfig:
    """A network and its training."""

    network: ResNetConfig | ConvAttConfig
    training: TrainingConfig


class ImageNetwork(nn.Module):
    """ResNet on cutouts [nanomaggies], through arcsinh."""

    def __init__(self, config: ResNetConfig, outputs: int):
        super().__init__()
        self.resnet = ResNet(config, outputs)

    def forward(self, flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, "B P"]:
        """Outputs; turned and flipped at random while training."""
        if self.training:
            flux = random_dihedral(flux)
        flux = torch.asinh(flux / IMAGE_SOFTENING).contiguous(memory_format=torch.channels_last)
        return self.resnet(flux)


class SpectrumNetwork(nn.Module):
    """Conv+Att on spectra [1e-17 erg/s/cm²/Å], each divided by its mean flux; that comes beside."""

    def __init__(self, config: ConvAttConfig, outputs: int):
        super().__init__()
        self.net = ConvAtt(config, outputs, planes=2, extra=1)

    def forward(self, flux: Float[Tensor, "B L"]) -> Float[Tensor, "B P"]:
        """Outputs."""
        brightness = flux.mean(dim=1, keepdim=True).clamp(min=FAINTEST)
        place = torch.linspace(-1, 1, flux.shape[1]).expand_as(flux)
        planes = torch.stack([(flux / brightness).clamp(-5, 20), place], dim=1)
        return self.net(planes, brightness.log10())
