"""Contrastive alignment of images and spectra of the same galaxies."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

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
    """
    image, spectrum = (F.normalize(x, dim=1, eps=SHORTEST) for x in (image, spectrum))
    logits = inverse_temperature * image @ spectrum.T  # rows are images
    pair = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2
