"""Training pairs for alignment: what a frozen spectrum tower says is computed once.

Shapes: B galaxies, T tokens, E token width, F features.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..device import Precision, autocast, resolve_device
from ..image.preprocess import ImageInputs, random_dihedral
from ..metrics import partner_ranks, recall_at_k
from ..progress import track
from ..survey.batches import BatchOrder
from ..survey.store import SurveyStore
from ..survey.survey import Survey
from ..training.cache import TensorCache
from ..training.loop import TrainingConfig
from .contrastive import contrastive_loss
from .model import Model


class Pairs(NamedTuple):
    """A batch of galaxies: image inputs, and the spectrum as features and the trunk's tokens."""

    image: ImageInputs
    features: Float[Tensor, "B F"]
    tokens: Float[Tensor, "B T E"]


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
        with autocast(place, precision):
            tokens = model.spectrum.tokens(type(spectrum)(*(x.to(place) for x in spectrum)))
        yield {
            **image._replace(flux=image.flux.half())._asdict(),
            "spectrum_features": spectrum.features,
            "tokens": tokens.bfloat16(),
        }


def take_pairs(
    cache: TensorCache, rows: Int[np.ndarray, "N"] | slice, device: torch.device
) -> Pairs:
    """Some rows of the cache, on the device."""
    tensors = {name: tensor.to(device) for name, tensor in cache.take(rows).items()}
    image = ImageInputs(**{name: tensors[name] for name in ImageInputs._fields})
    image = image._replace(flux=image.flux.float())
    return Pairs(image, tensors["spectrum_features"], tensors["tokens"].float())


def pair_batches(
    cache: TensorCache, config: TrainingConfig, device: torch.device
) -> Callable[[int], Iterator[Pairs]]:
    """Endless shuffled batches, from any step on."""

    def batches(step: int) -> Iterator[Pairs]:
        rows = np.arange(len(cache))
        order = BatchOrder(
            rows, config.batch_size, seed=config.seed, start=step, epochs=None, drop_last=True
        )
        return (take_pairs(cache, batch, device) for batch in order)

    return batches


def pair_loss(model: Model, pairs: Pairs) -> Float[Tensor, ""]:
    """Contrastive loss of a batch, its images turned and flipped at random."""
    image = model.image(random_dihedral(pairs.image))
    spectrum = model.spectrum.head(pairs.features, pairs.tokens)
    return contrastive_loss(image.float(), spectrum.float(), model.inverse_temperature)


@torch.no_grad()
def retrieval(model: Model, pairs: Pairs) -> dict[str, float]:
    """Loss, and how often an image finds its own spectrum among the first 10 of these pairs."""
    image = model.image(pairs.image).float()
    spectrum = model.spectrum.head(pairs.features, pairs.tokens).float()
    loss = contrastive_loss(image, spectrum, model.inverse_temperature)
    cosine = F.normalize(image) @ F.normalize(spectrum).T
    ranks = partner_ranks(cosine.cpu().numpy())
    return {"validation_loss": loss.item(), "top10": recall_at_k(ranks, 10)}
