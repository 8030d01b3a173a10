"""Training pairs for alignment: what a locked trunk says is computed once.

Shapes: B galaxies, T tokens, E token width, F features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..device import Precision, autocast, fast_products, resolve_device
from ..image.preprocess import ImageInputs, random_dihedral
from ..metrics import partner_ranks, recall_at_k
from ..progress import track
from ..spectrum.preprocess import SpectrumInputs
from ..survey.batches import BatchOrder, read_ahead
from ..survey.store import SurveyStore
from ..survey.survey import Survey
from ..training.cache import TensorCache
from ..training.contrastive import contrastive_loss, joint_contrastive_loss
from ..training.loop import TrainingConfig
from .model import Model, ModelConfig
from .towers import Tower


@dataclass(frozen=True)
class LearningConfig:
    """What learns in an alignment beside the heads; a trunk that does not is locked as it came.

    What a locked trunk says is computed once, of images as they are, not turned.
    """

    image: bool = True  # the trunk
    spectrum: bool = False  # the trunk
    temperature: bool = True  # else it stays where it starts

    def apply(self, model: Model) -> None:
        """Locks what does not learn."""
        model.image.trunk.requires_grad_(self.image)
        model.spectrum.trunk.requires_grad_(self.spectrum)
        model.log_inverse_temperature.requires_grad_(self.temperature)
        for name, parameter in model.named_parameters():
            if name.endswith("mask_token"):
                parameter.requires_grad_(False)  # nothing is hidden here


def unaligned(
    config: ModelConfig,
    learning: LearningConfig,
    seed: int,
    spectrum_run: Path,
    image_run: Path | None,
) -> Model:
    """A model of pretrained trunks and heads drawn by a seed; what does not learn is locked.

    Raises:
        ValueError: If the image trunk neither learns nor comes from a run.
    """
    if image_run is None and not learning.image:
        raise ValueError(
            "this recipe's image trunk does not learn here, so it needs a pretrained one: "
            "pass the run of `appulse pretrain image`"
        )
    torch.manual_seed(seed)
    model = Model(config)
    model.load_pretrained(spectrum_run, image_run)
    learning.apply(model)
    return model


class Tokens(NamedTuple):
    """Galaxies as a locked trunk sees them: what a head takes."""

    features: Float[Tensor, "B F"]
    tokens: Float[Tensor, "B T E"]


class Pairs(NamedTuple):
    """A batch of galaxies, each side as its tower takes it or as its locked trunk saw it."""

    image: ImageInputs | Tokens
    spectrum: SpectrumInputs | Tokens


def cache_pairs(
    path: Path,
    model: Model,
    store: SurveyStore,
    part: str,
    device: str,
    precision: Precision,
) -> TensorCache:
    """All pairs of a part of a survey, as `take_pairs` reads them, in the store's order."""
    rows = len(store.rows(part))
    batches = track(store.iter(part, 256), f"prepare {part}", rows)
    return TensorCache.create(path, rows, _prepared(model, batches, device, precision))


@torch.no_grad()
def _prepared(
    model: Model, batches: Iterator[Survey], device: str, precision: Precision
) -> Iterator[dict[str, Tensor]]:
    place = resolve_device(device)
    model.to(place).eval()
    for survey in batches:
        image = model.image.prepare(survey.images)
        spectrum = model.spectrum.prepare(survey.spectra)
        wavelength = spectrum.wavelength.expand(len(survey), -1)
        with fast_products(model), autocast(place, precision):
            sides = {
                "image": _kept(model.image, image._replace(flux=image.flux.half()), image, place),
                "spectrum": _kept(
                    model.spectrum, spectrum._replace(wavelength=wavelength), spectrum, place
                ),
            }
        yield {f"{side}.{n}": t for side, kept in sides.items() for n, t in kept._asdict().items()}


def _kept(tower: Tower, small: Any, inputs: Any, place: torch.device) -> Any:
    """Inputs in the form that is kept; or, where the trunk is locked, its tokens."""
    if not tower.locked:
        return small
    tokens = tower.tokens(type(inputs)(*(tensor.to(place) for tensor in inputs)))
    return Tokens(inputs.features, tokens.bfloat16())


def take_pairs(
    cache: TensorCache, rows: Int[np.ndarray, "N"] | slice, device: torch.device
) -> Pairs:
    """Some rows of the cache, on the device."""
    tensors = {name: tensor.to(device) for name, tensor in cache.take(rows).items()}
    return Pairs(_side("image", ImageInputs, tensors), _side("spectrum", SpectrumInputs, tensors))


def _side(side: str, inputs: Any, tensors: dict[str, Tensor]) -> Any:
    kind = Tokens if f"{side}.tokens" in tensors else inputs
    fields = (tensors[f"{side}.{name}"] for name in kind._fields)
    return kind(*(x.float() if x.is_floating_point() else x for x in fields))


def pair_batches(
    cache: TensorCache, config: TrainingConfig, device: torch.device
) -> Callable[[int], Iterator[Pairs]]:
    """Endless shuffled batches, this rank's share, from any step on."""
    rows, read = np.arange(len(cache)), partial(take_pairs, cache, device=device)
    return lambda step: read_ahead(read, BatchOrder(rows, **config.order(step)))


def pair_loss(model: Model, pairs: Pairs) -> Float[Tensor, ""]:
    """Contrastive loss of a batch, its images turned and flipped at random; and what is expected.

    Negatives come from all ranks, but from one piece of an accumulated step.
    """
    if isinstance(pairs.image, ImageInputs):
        pairs = pairs._replace(image=random_dihedral(pairs.image))
    image, spectrum = _embedded(model, pairs)
    loss = joint_contrastive_loss(image, spectrum, model.inverse_temperature)
    if model.expectation is None:
        return loss
    measured = model.spectrum.coordinates(pairs.spectrum.features)
    return loss + model.expectation.loss(image, measured)


@torch.no_grad()
def retrieval(model: Model, pairs: Pairs) -> dict[str, float]:
    """Loss, and how often an image finds its own spectrum among the first 10 of these pairs."""
    image, spectrum = _embedded(model, pairs)
    loss = contrastive_loss(image, spectrum, model.inverse_temperature)
    cosine = F.normalize(image) @ F.normalize(spectrum).T
    ranks = partner_ranks(cosine.cpu().numpy())
    return {"validation_loss": loss.item(), "top10": recall_at_k(ranks, 10)}


def _embedded(model: Model, pairs: Pairs) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    image, spectrum = (
        tower.head(*inputs) if isinstance(inputs, Tokens) else tower(inputs)
        for tower, inputs in zip((model.image, model.spectrum), pairs, strict=True)
    )
    return image.float(), spectrum.float()
