"""What a galaxy's spectrum would measure, as far as its image tells: learned without labels.

Shapes: B galaxies, D embedding, K coordinates.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .whitening import LEAST_STD

WIDTH = 128


class Expectation(nn.Module):
    """The mean of a spectrum's coordinates given the embedding of the image.

    Redshift, brightness and looks at rest as the spectrum tower measures them are few numbers that
    galaxy properties depend on: a handful of labels goes further with them than with an embedding,
    most of whose axes serve to tell galaxies apart. Fitted by squared error, so the result is the
    mean; the embedding does not learn from it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embedding: int, coordinates: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(embedding, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, coordinates),
        )
        self.register_buffer("mean", torch.zeros(coordinates))
        self.register_buffer("std", torch.ones(coordinates))

    def standardise(self, coordinates: Float[Tensor, "N K"]) -> None:
        """Takes mean and scatter from a training set; what never varies is expected at its mean."""
        std, mean = torch.std_mean(coordinates, dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.where(std > LEAST_STD * mean.abs().clamp(min=1), 0))

    def forward(self, image: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Expected coordinates, from embeddings of any length."""
        return self._standard(image) * self.std + self.mean

    def loss(
        self, image: Float[Tensor, "B D"], coordinates: Float[Tensor, "B K"]
    ) -> Float[Tensor, ""]:
        """Mean squared error in units of each coordinate's scatter."""
        unit = self.std.where(self.std > 0, torch.inf)
        return F.mse_loss(self._standard(image.detach()), (coordinates - self.mean) / unit)

    def _standard(self, image: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        scaled = F.normalize(image, dim=1) * image.shape[1] ** 0.5  # entries of order 1
        return self.net(scaled).float()
