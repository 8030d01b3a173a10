"""What changes the picture of a galaxy and not the galaxy: turns, shifts, seeing and noise.

As tensors, on the device that learns; random numbers are torch's.

Shapes: B galaxies; y, x and v, u are pixels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WIDEST = 4.0  # standard deviations at which a Gaussian ends
SHARP = 1e-3  # pixels, so narrow a Gaussian changes nothing


class Lognormal(NamedTuple):
    """A shifted log-normal distribution for each of g, r, z."""

    shape: tuple[float, float, float]
    shift: tuple[float, float, float]
    scale: tuple[float, float, float]

    def at(self, normal: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
        """The draws that standard normal ones stand for."""
        shape, shift, scale = (torch.tensor(x).to(normal) for x in self)
        return shift + scale * (shape * normal).exp()


# Fits to the Legacy Surveys by Stein et al. (2021, ssl-legacysurvey): standard deviation of the
# sky in nanomaggies per pixel, and of the point-spread function in pixels.
NOISE = Lognormal(
    (0.2264926, 0.2431146, 0.1334844),
    (-0.0006735, -0.0023663, -0.0143416),
    (0.0037602, 0.0067417, 0.0260779),
)
SEEING = Lognormal(
    (0.2109966, 0.3008485, 0.3471172),
    (1.0807153, 1.2394326, 1.1928363),
    (1.3153171, 0.9164757, 0.8233702),
)


def added(distribution: Lognormal, normal: Float[Tensor, "2 *B 3"]) -> Float[Tensor, "*B 3"]:
    """What turns a draw into another one in quadrature, 0 where the other is smaller."""
    true, final = distribution.at(normal)
    return (final**2 - true**2).clamp(min=0).sqrt()


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


def cropped(flux: Float[Tensor, "B 3 y x"], size: int) -> Float[Tensor, "B 3 v u"]:
    """A square at a random place of each image, turned by a multiple of 90° and perhaps flipped."""
    rows, columns = (_run(len(flux), side, size).to(flux.device) for side in flux.shape[2:])
    rows = rows[:, None, :, None].expand(-1, 3, -1, flux.shape[3])
    columns = columns[:, None, None].expand(-1, 3, size, -1)
    square = flux.gather(2, rows).gather(3, columns)
    across = (torch.rand(len(flux), 1, 1, 1) < 0.5).to(flux.device)
    return square.where(across, square.mT)


def _run(n: int, pixels: int, size: int) -> Tensor:
    """For each of n images `size` neighbouring pixels of so many, forwards or backwards, (n, v)."""
    run = torch.randint(pixels - size + 1, (n, 1)) + torch.arange(size)
    return run.where(torch.rand(n, 1) < 0.5, run.flip(1))


def worse(flux: Float[Tensor, "B 3 y x"], chance: float = 1.0) -> Float[Tensor, "B 3 y x"]:
    """Images with more blur, and more noise, as if taken on another night of the Legacy Surveys.

    Either happens to an image by `chance`; half of the draws add nothing to a band.
    """
    planes = flux.flatten(0, 1).clone()
    for kind, change in ((SEEING, blurred), (NOISE, noisy)):
        sigma = added(kind, torch.randn(2, len(flux), 3)) * (torch.rand(len(flux), 1) < chance)
        (some,) = sigma.flatten().nonzero(as_tuple=True)
        place = some.to(flux.device)
        planes[place] = change(planes[place], sigma.flatten()[some].to(flux.device))
    return planes.view_as(flux)


def noisy(planes: Float[Tensor, "M y x"], sigma: Float[Tensor, "M"]) -> Float[Tensor, "M y x"]:
    """Planes with white noise of `sigma` nanomaggies per pixel."""
    return planes + sigma[:, None, None] * torch.randn_like(planes)


def blurred(planes: Float[Tensor, "M y x"], sigma: Float[Tensor, "M"]) -> Float[Tensor, "M y x"]:
    """Planes convolved with a Gaussian of `sigma` pixels each, mirrored at the edges."""
    down, across = (_gaussian(sigma, pixels) for pixels in planes.shape[1:])
    with torch.autocast(planes.device.type, enabled=False):  # bfloat16 would be noise of its own
        return down @ planes @ across.mT


def _gaussian(sigma: Float[Tensor, "M"], n: int) -> Float[Tensor, "M n n"]:
    """What each of n pixels in a row takes from each, as SciPy's `gaussian_filter` has it."""
    sigma = sigma[:, None].clamp(min=SHARP)
    distance = torch.arange(2 * n, device=sigma.device)
    weight = (-((distance / sigma) ** 2) / 2).exp() * (distance <= (WIDEST * sigma + 0.5).floor())
    weight /= weight[:, :1] + 2 * weight[:, 1:].sum(1, keepdim=True)
    inside = torch.cat([weight[:, 1:n].flip(1), weight[:, :n]], dim=1).unfold(1, n, 1).flip(2)
    mirrored = weight[:, 1:].unfold(1, n, 1)  # in the first edge; turned, in the last
    return inside + mirrored + mirrored.flip(1, 2)
