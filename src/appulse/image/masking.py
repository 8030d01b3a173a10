"""Which patches a student must guess: blocks, as iBOT hides them (BEiT, Bao et al. 2022).

Shapes: B images, P patches of an image, i and j their rows and columns.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

SMALLEST = 4  # patches of a block
ASPECT = (math.log(0.3), math.log(1 / 0.3))  # range of a block's log height over width
TRIES = 10  # before giving up on a block


@dataclass(frozen=True)
class BlockMaskConfig:
    """How much is hidden; the defaults are AstroDINO's."""

    probability: float = 0.5  # share of images with a mask
    least: float = 0.1  # share of patches hidden in them
    most: float = 0.5


def block_masks(
    images: int, side: int, config: BlockMaskConfig, random: Random
) -> Bool[Tensor, "B P"]:
    """Masks of a batch; their shares are spread evenly from least to most, in random order."""
    masked = int(images * config.probability)
    shares = torch.linspace(config.least, config.most, masked + 1).tolist()
    masks = [
        block_mask(side, int(side**2 * random.uniform(low, high)), random)
        for low, high in pairwise(shares)
    ]
    masks += [np.zeros((side, side), dtype=bool)] * (images - masked)
    random.shuffle(masks)
    return torch.from_numpy(np.stack(masks).reshape(images, -1))


def block_mask(side: int, patches: int, random: Random) -> Bool[np.ndarray, "i j"]:
    """Rectangles until `patches` are hidden or no more fit; never more than that."""
    mask = np.zeros((side, side), dtype=bool)
    while room := patches - int(mask.sum()):
        if not _add_block(mask, min(room, side**2 // 2), random):
            break
    return mask


def _add_block(mask: Bool[np.ndarray, "i j"], most: int, random: Random) -> bool:
    """Hides one more rectangle that adds at least 1 and at most `most` patches, if one is found."""
    for _ in range(TRIES):
        area, aspect = random.uniform(SMALLEST, most), math.exp(random.uniform(*ASPECT))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= len(mask) or width >= len(mask):
            continue
        top, left = random.randint(0, len(mask) - height), random.randint(0, len(mask) - width)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - block.sum() <= most:
            block[:] = True
            return True
    return False
