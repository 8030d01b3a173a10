"""What changes the picture of a galaxy and not the galaxy: turns, shifts, seeing and noise.

As tensors, on the device that learns; `augment` holds what self-distillation does to arrays.

Shapes: B galaxies; y, x and v, u are pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .augment import NOISE, SEEING, Lognormal


def moved(
    flux: Float[Tensor, "B 3 y x"], size: int, part: Float[Tensor, "B"], shift: float
) -> Float[Tensor, "B 3 v u"]:
    """Images turned by any angle, flipped and shifted at random, resampled to `size` pixels.

    Args:
        flux: Square images.
        size: Pixels of a view.
        part: Of the image's side, that a view shows.
        shift: Largest move of the centre along either axis, as a part of half the side.
    """
    n = len(flux)
    angle, (right, up) = 2 * torch.pi * torch.rand(n), shift * (2 * torch.rand(2, n) - 1)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    rows = [
        torch.stack([part * angle.cos() * flip, -part * angle.sin(), right], dim=1),
        torch.stack([part * angle.sin() * flip, part * angle.cos(), up], dim=1),
    ]
    shape = [n, flux.shape[1], size, size]
    grid = F.affine_grid(torch.stack(rows, dim=1), shape, align_corners=False)
    return F.grid_sample(flux, grid.to(flux.device), align_corners=False)


def worse(flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, "B 3 y x"]:
    """Images with more blur and noise, each as if taken on another night of the Legacy Surveys."""
    n = len(flux)
    flux = blurred(flux, _added(SEEING, n).to(flux.device))
    return flux + _added(NOISE, n).to(flux.device)[..., None, None] * torch.randn_like(flux)


def blurred(
    flux: Float[Tensor, "B 3 y x"], sigma: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 3 y x"]:
    """Each band convolved with a Gaussian of `sigma` pixels; edges wrap around."""
    y, x = flux.shape[2:]
    frequency = (
        torch.fft.fftfreq(y, device=flux.device)[:, None] ** 2
        + torch.fft.rfftfreq(x, device=flux.device) ** 2
    )
    transfer = torch.exp(-2 * (torch.pi * sigma[..., None, None]) ** 2 * frequency)
    return torch.fft.irfft2(torch.fft.rfft2(flux) * transfer, s=(y, x))


def _added(distribution: Lognormal, n: int) -> Float[Tensor, "B 3"]:
    """What turns a draw into another one in quadrature, 0 where the other is smaller."""
    shape, shift, scale = (torch.tensor(x) for x in distribution)
    true, final = shift + scale * (shape * torch.randn(2, n, 3)).exp()
    return (final**2 - true**2).clamp(min=0).sqrt()
