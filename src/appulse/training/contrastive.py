"""Contrastive alignment of images and spectra of the same galaxies.

Shapes: B galaxies of this rank, N of all ranks, D embedding.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .distribution import rank, ranks

SHORTEST = 1e-3  # as AstroCLIP has it: keeps gradients of near-zero vectors bounded


def contrastive_loss(
    image: Float[Tensor, "B D"],
    spectrum: Float[Tensor, "B D"],
    inverse_temperature: float | Float[Tensor, ""] = 15.5,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE loss, Radford et al. 2021, figure 3.

    Row i of `image` and row i of `spectrum` are the same galaxy; every other row of the batch is
    a negative. Neither input needs unit norm. The loss is log(B) when the embeddings say nothing,
    and near 0 when each row is close to its pair alone. Norms below `SHORTEST` count as that.
    It is computed in single precision or better, also under autocast.
    """
    image, spectrum = _unit(image), _unit(spectrum)
    with torch.autocast(image.device.type, enabled=False):
        logits = inverse_temperature * image @ spectrum.T  # rows are images
    pair = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2


def joint_contrastive_loss(
    image: Float[Tensor, "B D"],
    spectrum: Float[Tensor, "B D"],
    inverse_temperature: float | Float[Tensor, ""] = 15.5,
) -> Float[Tensor, ""]:
    """`contrastive_loss` with the galaxies of all ranks as negatives; all have as many.

    This rank's rows are compared with everybody's. The mean over ranks is the loss of the joint
    batch, and so are its gradients, since they go back to the rank that a negative came from.
    Alone, it is `contrastive_loss`.
    """
    if ranks() == 1:
        return contrastive_loss(image, spectrum, inverse_temperature)
    image, spectrum = _unit(image), _unit(spectrum)
    images, spectra = _Gather.apply(torch.stack([image, spectrum], dim=1)).unbind(1)
    pair = rank() * len(image) + torch.arange(len(image), device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        across = F.cross_entropy(inverse_temperature * image @ spectra.T, pair)
        down = F.cross_entropy(inverse_temperature * spectrum @ images.T, pair)
    return (across + down) / 2


def _unit(x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Vectors of unit length, in single precision or better."""
    x = x if x.dtype == torch.float64 else x.float()
    return F.normalize(x, dim=1, eps=SHORTEST)


class _Gather(torch.autograd.Function):
    """The rows of all ranks, in their order; a row's gradient is the sum of all ranks'."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "B 2 D"]) -> Float[Tensor, "N 2 D"]:
        parts = [torch.empty_like(x) for _ in range(ranks())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "N 2 D"]) -> Float[Tensor, "B 2 D"]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(ranks())[rank()]
