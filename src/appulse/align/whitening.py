"""Physical features as a network learns best from them.

Shapes: B galaxies, N of a training set, F features.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

FLOOR = 1.0  # variance, in units of a standardised feature's
LEAST_STD = 1e-6  # a training set with less scatter teaches no units


class Whitening(nn.Module):
    """Standard units, then less of what the features share.

    Fluxes of one galaxy rise and fall together: nearly all of their scatter is brightness, and
    colours and sizes, small differences, would be learned late. Whitening proper would blow up
    noise as well. With a ridge of one feature's variance the covariance of standardised features,
    C, becomes C (C + 1)⁻¹: large eigenvalues end near 1, and small ones stay small.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("axes", torch.eye(features))

    def learn(self, features: Float[Tensor, "N F"], floor: float = FLOOR) -> None:
        """Takes mean, scatter and correlations from a training set; `floor` is the ridge.

        Features without scatter there are ignored from then on, whatever their values.
        """
        x = features.cpu().double()  # mps has no float64
        std, mean = torch.std_mean(x, dim=0, correction=0)
        std = std.where(std > LEAST_STD, torch.inf)
        x = (x - mean) / std
        variance, vectors = torch.linalg.eigh(x.T @ x / len(x))
        root = vectors * (variance.clamp(min=0) + floor).rsqrt() @ vectors.T
        self.mean.copy_(mean)
        self.axes.copy_(root / std[:, None])

    def forward(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B F"]:
        """Features as a network reads them."""
        return (features - self.mean) @ self.axes
