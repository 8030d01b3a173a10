"""What a step of self-distillation learns from: views of a batch, and which patches to guess.

Shapes: B galaxies, W whole crops, two a galaxy, C local crops, P patches; y, x and v, u are pixels.
"""

from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .augment import CropConfig, multi_crop
from .masking import BlockMaskConfig, block_masks
from .preprocess import pictures
from .vit import VisionTransformerConfig


class Views(NamedTuple):
    """Crops, in the order of `augment.Crops`, and the patches hidden from the student."""

    whole: Float[Tensor, "W 3 y x"]
    parts: Float[Tensor, "C 3 v u"]
    hidden: Bool[Tensor, "W P"]  # of the whole crops


def random_views(
    flux: Float[Tensor, "B 3 y x"],
    trunk: VisionTransformerConfig,
    crops: CropConfig,
    masks: BlockMaskConfig,
) -> Views:
    """Random views of a batch [nanomaggies]; they follow from torch's random numbers alone."""
    whole, parts = multi_crop(flux, crops)
    side = crops.whole // trunk.patch
    hidden = block_masks(len(whole), side, masks, Random(int(torch.randint(2**63 - 1, ()))))
    if trunk.colours == "rgb":
        whole, parts = pictures(whole), pictures(parts)
    return Views(whole, parts, hidden.to(flux.device))
