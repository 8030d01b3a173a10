"""Views of a galaxy that self-distillation calls the same: crops, turns, worse seeing and noise.

Shapes: B images, W whole and C local crops; y and x, v and u are pixels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .distortions import cropped, worse


@dataclass(frozen=True)
class CropConfig:
    """Sizes and numbers of views; the defaults are AstroDINO's, with what its code does."""

    whole: int = 144  # pixels of the two global crops
    part: int = 60  # pixels of the local ones
    parts: int = 8
    # chance of worse seeing, and of more noise, in the first and second global crop and in parts
    degrade: tuple[float, float, float] = (0.0, 0.9, 0.5)


class Crops(NamedTuple):
    """Views of a batch: all of the first kind, then all of the second, and so on."""

    whole: Float[Tensor, "W 3 y x"]
    parts: Float[Tensor, "C 3 v u"]


def multi_crop(flux: Float[Tensor, "B 3 y x"], config: CropConfig) -> Crops:
    """Global and local crops, each moved, turned, blurred and made noisier on its own.

    Flux stays in nanomaggies: seeing and noise come before any arcsinh.
    """
    first, second, parts = config.degrade
    whole = [worse(cropped(flux, config.whole), chance) for chance in (first, second)]
    local = [worse(cropped(flux, config.part), parts) for _ in range(config.parts)]
    nothing = flux.new_zeros(0, 3, config.part, config.part)
    return Crops(torch.cat(whole), torch.cat([nothing, *local]))
