"""The noise that a trained flow starts from, fitted to what it makes of data.

Shapes: B observations, S samples, D parameters, P subsets of the evidence.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WEIGHT = 50  # numbers' worth of belief that the noise is N(0, 1)


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
        constant = 0.5 * math.log(2 * math.pi) + self.scale.log()[:, None]
        return -0.5 * standard.square().sum(-1) - noise.shape[-1] * constant


class NoiseFit(nn.Module):
    """One such normal for each subset of the evidence; N(0, I) until it has learned.

    A flow that learned from few rows is a little off and too sure, in ways that do not depend on
    the observation: data carried back to noise are not N(0, I). What they are is fitted by maximum
    likelihood, as temperatures are for classifiers (Guo et al. 2017): the mean to all rows, the
    scale to rows that no weight has seen.
    """

    def __init__(self, dim: int, subsets: int):
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(subsets, dim))
        self.register_buffer("scale", torch.ones(subsets))

    def learn(self, subset: int, noise: Float[Tensor, "B D"], held: Bool[Tensor, "B"]) -> None:
        """From the noise of rows with this subset, some of which were held out."""
        mean = noise.sum(0) / (len(noise) + WEIGHT)
        far = (noise[held] - mean).square()
        self.mean[subset] = mean
        self.scale[subset] = ((far.sum() + WEIGHT) / (far.numel() + WEIGHT)).sqrt()

    def forward(self, subset: Int[Tensor, "B"]) -> Noise:
        """Where each observation's samples start."""
        return Noise(self.mean[subset], self.scale[subset])
