"""The noise that a trained flow starts from, fitted to what it makes of data.

Shapes: B observations, S samples, D parameters, M flows of one ensemble.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..flow.density import standard_normal

WEIGHT = 50  # numbers' worth of belief that the noise is N(0, 1)
LEAST = 0.5  # scale, however much the flows disagree


class Noise(NamedTuple):
    """N(m, s² I) of each observation."""

    mean: Float[Tensor, "B D"]
    scale: Float[Tensor, "B"]

    def scaled(self, standard: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """From N(0, I) to this."""
        return self.mean[:, None] + self.scale[:, None, None] * standard

    def log_prob(self, noise: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Log density in nats."""
        standard = (noise - self.mean[:, None]) / self.scale[:, None, None]
        return standard_normal(standard) - noise.shape[-1] * self.scale.log()[:, None]


class SubsetNoise(nn.Module):
    """One such normal for each subset of the evidence; N(0, I) until `set` says otherwise."""

    def __init__(self, dim: int, subsets: int):
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(subsets, dim))
        self.register_buffer("scale", torch.ones(subsets))

    def set(self, subset: int, mean: Float[Tensor, "D"], scale: Float[Tensor, ""]) -> None:
        """The normal of one subset."""
        self.mean[subset], self.scale[subset] = mean, scale

    def forward(self, subset: Int[Tensor, "B"]) -> Noise:
        """Where each observation's samples start."""
        return Noise(self.mean[subset], self.scale[subset])


def fit_noise(
    noise: Float[Tensor, "M B D"], held: Bool[Tensor, "M B"]
) -> tuple[Float[Tensor, "M D"], Float[Tensor, ""]]:
    """Means and the one scale with which M flows together are as sure as they may be.

    A flow that learned from few rows is a little off and too sure, in ways that do not depend on
    the observation: data carried back to noise are not N(0, I). What they are is fitted, as
    temperatures are for classifiers (Guo et al. 2017): means to all rows, the scale to rows that
    the flow has not seen. What the flows disagree by is in the error of each and widens their
    mixture again, so twice of it is taken off.

    Args:
        noise: What each flow makes of rows.
        held: Which of them it did not learn from.
    """
    means = noise.sum(1) / (noise.shape[1] + WEIGHT)
    centred = noise - means[:, None]
    between = (centred - centred.mean(0)).square().mean(0)
    far = (centred.square() - 2 * between)[held]
    scale = ((far.sum() + WEIGHT) / (far.numel() + WEIGHT)).clamp(min=LEAST**2).sqrt()
    return means, scale
