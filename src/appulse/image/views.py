"""What a step of self-distillation learns from: views of a batch, and which patches to guess.

Shapes: W whole crops, two a galaxy, C local crops, P patches; y, x and v, u are pixels.
"""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..survey.batches import BatchOrder, loader
from ..survey.images import Images
from ..survey.rgb import to_rgb
from ..survey.store import SurveyStore
from ..training.distribution import rank
from ..training.loop import TrainingConfig
from .augment import CropConfig, multi_crop
from .masking import BlockMaskConfig, block_masks
from .preprocess import to_nanomaggies
from .vit import VisionTransformerConfig


class Views(NamedTuple):
    """Crops, in the order of `augment.Crops`, and the patches hidden from the student."""

    whole: Float[Tensor, "W 3 y x"]
    parts: Float[Tensor, "C 3 v u"]
    hidden: Bool[Tensor, "W P"]  # of the whole crops

    def to(self, device: torch.device) -> "Views":
        """The same, there."""
        return Views(*(tensor.to(device) for tensor in self))


def random_views(
    images: Images,
    trunk: VisionTransformerConfig,
    crops: CropConfig,
    masks: BlockMaskConfig,
    seed: tuple[int, ...],
) -> Views:
    """Random views of a batch; they follow from the seed alone."""
    rng = np.random.default_rng(seed)
    whole, parts = multi_crop(to_nanomaggies(images).filled(), crops, rng)
    side = crops.whole // trunk.patch
    hidden = block_masks(len(whole), side, masks, Random(int(rng.integers(2**63))))
    if trunk.colours == "rgb":
        whole, parts = to_rgb(whole), to_rgb(parts)
    return Views(torch.from_numpy(whole), torch.from_numpy(parts), hidden)


def view_batches(
    store: SurveyStore,
    trunk: VisionTransformerConfig,
    crops: CropConfig,
    masks: BlockMaskConfig,
    training: TrainingConfig,
    device: torch.device,
) -> Callable[[int], Iterator[Views]]:
    """Endless views of a survey's encoder-train images, this rank's share, from any step on."""
    rows = store.rows("encoder-train")

    def batches(step: int) -> Iterator[Views]:
        order = BatchOrder(rows, **training.order(step))
        images = loader(partial(store.take, fields=("images",)), order, workers=0)
        for count, batch in enumerate(images, step * training.accumulate):
            number, piece = divmod(count, training.accumulate)
            seed = (training.seed, number, rank() * training.accumulate + piece)
            yield random_views(batch["images"], trunk, crops, masks, seed).to(device)

    return batches
