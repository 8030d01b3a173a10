"""Imaging instrument: seeing, depth and noise of a Legacy Surveys cutout.

Typical seeing and depth of DECaLS (Dey et al. 2019, table 4); their scatter is ad hoc.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...units import PIXEL_SCALE, magnitude_to_flux
from .table import Table

FIBRE_RADIUS = 0.75  # arcsec, DESI
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# Three Gaussians (share, width over that of a Gaussian of the same FWHM): a core with wings.
PSF = ((0.80, 0.972), (0.17, 1.829), (0.03, 4.181))
# nanomaggies per pixel at which a source's own photons double the variance of g, r, z
SKY_LEVEL = (0.04, 0.07, 0.2)

Stamps = Float[Tensor, "B 3 y x"]
PerBand = Float[np.ndarray, "B 3"]


@dataclass(frozen=True, eq=False)
class Exposure(Table):
    """Seeing (FWHM, arcsec) and depth (5 σ for a point source, AB) in g, r, z."""

    fwhm: PerBand
    depth: PerBand

    @property
    def sky_noise(self) -> PerBand:
        """Standard deviation of an empty pixel in nanomaggies, for a Gaussian PSF."""
        noise_pixels = 4 * np.pi * (self.fwhm * SIGMA_PER_FWHM / PIXEL_SCALE) ** 2
        return magnitude_to_flux(self.depth) / 5 / np.sqrt(noise_pixels)


def draw_exposure(n: int, rng: np.random.Generator) -> Exposure:
    """Conditions of `n` cutouts."""
    fwhm = rng.normal([1.45, 1.28, 1.18], [0.14, 0.13, 0.12], (n, 3))
    depth = rng.normal([24.0, 23.4, 22.5], 0.2, (n, 3))
    return Exposure(fwhm=np.clip(fwhm, 0.85, 2.2), depth=depth)


def blur(image: Stamps, fwhm: PerBand) -> Stamps:
    """Convolves with the PSF; light that leaves the stamp is lost."""
    size = image.shape[-1]
    padded = _padded(size)
    transform = torch.fft.rfft2(image, s=(padded, padded))
    transform *= _transfer(fwhm, padded)
    return torch.fft.irfft2(transform, s=(padded, padded))[..., :size, :size]


def _padded(size: int) -> int:
    """A length for the FFT, multiple of 32, with room for the wings of the PSF (4 arcsec)."""
    return -(-(size + 16) // 32) * 32


def _transfer(fwhm: PerBand, size: int) -> Float[Tensor, "B 3 ky kx"]:
    """Fourier transform of the PSF on the grid of `rfft2`."""
    sigma = torch.from_numpy(fwhm.astype(np.float32))[..., None] * SIGMA_PER_FWHM / PIXEL_SCALE
    ky = 2 * torch.pi * torch.fft.fftfreq(size)
    kx = 2 * torch.pi * torch.fft.rfftfreq(size)
    total = torch.zeros(())
    for share, width in PSF:
        rows, columns = (torch.exp(-((k * width * sigma) ** 2) / 2) for k in (ky, kx))
        total = total + (share * rows)[..., :, None] * columns[..., None, :]
    return total


def pixel_variance(image: Stamps, exposure: Exposure) -> Stamps:
    """Variance of each pixel of a noise-free, blurred image: sky and the source's photons."""
    sky = torch.from_numpy(exposure.sky_noise.astype(np.float32) ** 2)[..., None, None]
    level = torch.tensor(SKY_LEVEL)[:, None, None]
    return sky * (1 + image.clamp(min=0) / level)


def add_noise(image: Stamps, exposure: Exposure, rng: np.random.Generator) -> Stamps:
    """An observation of a noise-free, blurred image."""
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return image + noise * torch.sqrt(pixel_variance(image, exposure))


def fibre_flux(image: Stamps) -> Float[np.ndarray, "B 3"]:
    """Light of blurred images inside DESI's fibre, centred on the stamp, nanomaggies."""
    axis = (torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2) * PIXEL_SCALE
    distance = torch.hypot(axis, axis[:, None])
    inside = (0.5 + (FIBRE_RADIUS - distance) / PIXEL_SCALE).clamp(0, 1)  # share of the pixel
    return (image * inside).sum((2, 3)).numpy()
