"""What an image transformer learns by before alignment: self-distillation, or contrast of views."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from ..survey.store import SurveyStore
from ..training.groups import Group, matrices_decay
from ..training.loop import TrainingConfig
from .augment import CropConfig
from .contrast import Contrast, ContrastConfig, flux_batches
from .dino import Dino, DinoConfig, parameter_groups
from .preprocess import to_nanomaggies
from .views import view_batches
from .vit import VisionTransformerConfig


class ImageObjective(NamedTuple):
    """What `training.loop.train` takes."""

    model: Any  # with `loss` of a batch and `validate` of images
    batches: Callable[[int], Iterator[Any]]
    groups: Callable[[Any], list[Group]] = matrices_decay
    after_step: Callable[[Any], None] | None = None


def image_objective(
    config: DinoConfig | ContrastConfig,
    trunk: VisionTransformerConfig,
    training: TrainingConfig,
    store: SurveyStore,
    device: torch.device,
) -> ImageObjective:
    """An untrained model of the kind that is configured, and a survey's images as it takes them.

    Raises:
        ValueError: If the survey's images are smaller than the crops that views are.
    """
    if isinstance(config, ContrastConfig):
        return ImageObjective(Contrast(trunk, config), flux_batches(store, training, device))
    _require_room(store, config.crops, trunk.patch)
    views = view_batches(store, trunk, config.crops, config.masks, training, device)
    model = Dino(trunk, config, training.steps)
    return ImageObjective(model, views, parameter_groups, Dino.update_teacher)


def _require_room(store: SurveyStore, crops: CropConfig, patch: int) -> None:
    images = to_nanomaggies(store.take(store.rows("encoder-train")[:1], ["images"])["images"])
    size = min(images.flux.shape[2:])
    if size < crops.whole:
        raise ValueError(
            f"images of {size} pixels are smaller than crops of {crops.whole}: simulate with "
            f"--size 152, or --objective.crops.whole {size // patch * patch}"
        )
