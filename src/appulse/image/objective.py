"""What an image transformer learns by before alignment: self-distillation, or contrast of views."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..survey.batches import BatchOrder, read_ahead
from ..survey.store import SurveyStore
from ..training.groups import Group, matrices_decay
from ..training.loop import TrainingConfig
from .augment import CropConfig
from .contrast import Contrast, ContrastConfig
from .dino import Dino, DinoConfig, parameter_groups
from .preprocess import image_flux, to_nanomaggies
from .vit import VisionTransformerConfig


class ImageObjective(NamedTuple):
    """What `training.loop.train` takes."""

    model: Any  # with `loss` of flux and `validate` of images
    groups: Callable[[Any], list[Group]] = matrices_decay
    after_step: Callable[[Any], None] | None = None


def image_objective(
    config: DinoConfig | ContrastConfig,
    trunk: VisionTransformerConfig,
    steps: int,
    store: SurveyStore,
) -> ImageObjective:
    """An untrained model of the kind that is configured, to be trained for so many steps.

    Raises:
        ValueError: If the survey's images are smaller than the crops that views are.
    """
    if isinstance(config, ContrastConfig):
        return ImageObjective(Contrast(trunk, config))
    _require_room(store, config.crops, trunk.patch)
    return ImageObjective(Dino(trunk, config, steps), parameter_groups, Dino.update_teacher)


def _require_room(store: SurveyStore, crops: CropConfig, patch: int) -> None:
    images = to_nanomaggies(store.take(store.rows("encoder-train")[:1], ["images"])["images"])
    size = min(images.flux.shape[2:])
    for name, side in (("whole", crops.whole), ("part", crops.part)):
        if size < side:
            raise ValueError(
                f"images of {size} pixels are smaller than crops of {side}: simulate with "
                f"--size 152, or --objective.crops.{name} {size // patch * patch}"
            )


def flux_batches(
    store: SurveyStore, training: TrainingConfig, device: torch.device
) -> Callable[[int], Iterator[Tensor]]:
    """Endless images of encoder-train [nanomaggies], this rank's share, from any step on."""
    rows = store.rows("encoder-train")

    def read(some: Int[np.ndarray, "N"]) -> Tensor:
        return image_flux(store.take(some, ["images"])["images"]).to(device)

    return lambda step: read_ahead(read, BatchOrder(rows, **training.order(step)))
