"""Imaging instruments: seeing, depth and noise of a Legacy Surveys cutout.

The south was observed with DECam, the north with BASS (g, r) and MzLS (z). Typical seeing and
depth are published, their scatter is ours. Filters are DECam's everywhere.
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
NORTH = 32.375  # degrees of declination, where the surveys of the north begin
# FWHM in arcsec and 5 σ depth for a point source, AB, in g, r, z: median, and scatter.
# South: Dey et al. (2019). North: Dey et al. (2019) and Zou et al. (2019).
SOUTH_FWHM, NORTH_FWHM = (1.29, 1.18, 1.11), (1.61, 1.47, 1.01)
SOUTH_DEPTH, NORTH_DEPTH = (24.7, 23.9, 23.0), (24.2, 23.6, 23.0)
FWHM_SCATTER, DEPTH_SCATTER = 0.1, 0.2  # relative; mag
# mag, in each band of a cutout. Zero points are good to .01; with .02, redshifts from magnitudes
# are as hard as in SDSS's main sample (benchmarks/realism.py).
ZERO_POINT_SCATTER = 0.02
SKY_BRIGHTNESS = (22.04, 20.91, 18.46)  # AB per square arcsec in g, r, z, DECam on a dark night
# nanomaggies per pixel at which a source's own photons double the variance of g, r, z
SKY_LEVEL = tuple(PIXEL_SCALE**2 * magnitude_to_flux(np.array(SKY_BRIGHTNESS)))
FIBRE_OFFSET = 0.07  # arcsec along each axis, scatter of fibres about their targets

Stamps = Float[Tensor, "B 3 y x"]
PerBand = Float[np.ndarray, "B 3"]


@dataclass(frozen=True, eq=False)
class Exposure(Table):
    """Seeing (FWHM, arcsec), depth (5 σ for a point source, AB) and gain in g, r, z.

    The gain is by how much fluxes are measured too bright.
    """

    fwhm: PerBand
    depth: PerBand
    gain: PerBand

    @property
    def sky_noise(self) -> PerBand:
        """Standard deviation of an empty pixel in nanomaggies, for a Gaussian PSF."""
        noise_pixels = 4 * np.pi * (self.fwhm * SIGMA_PER_FWHM / PIXEL_SCALE) ** 2
        return magnitude_to_flux(self.depth) / 5 / np.sqrt(noise_pixels)


def draw_exposure(dec: Float[np.ndarray, "B"], rng: np.random.Generator) -> Exposure:
    """Conditions of cutouts at declinations in degrees."""
    north = dec[:, None] > NORTH
    fwhm = np.where(north, NORTH_FWHM, SOUTH_FWHM)
    fwhm = fwhm * (1 + FWHM_SCATTER * rng.standard_normal(fwhm.shape))
    depth = np.where(north, NORTH_DEPTH, SOUTH_DEPTH)
    depth = depth + DEPTH_SCATTER * rng.standard_normal(fwhm.shape)
    gain = 10 ** (0.4 * ZERO_POINT_SCATTER * rng.standard_normal(fwhm.shape))
    return Exposure(fwhm=np.clip(fwhm, 0.75, 2.4), depth=depth, gain=gain)


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
    gain = torch.from_numpy(exposure.gain.astype(np.float32))[..., None, None]
    return gain * image + noise * torch.sqrt(pixel_variance(image, exposure))


def fibre_flux(
    image: Stamps, offset: Float[np.ndarray, "B 2"] | None = None
) -> Float[np.ndarray, "B 3"]:
    """Light of blurred images inside DESI's fibre, nanomaggies.

    `offset` is the fibre's x and y from the centre of the stamp in arcsec.
    """
    middle, reach = image.shape[-1] // 2, 6  # pixels; the fibre and its offset lie inside
    near = slice(middle - reach, middle + reach)
    axis = (torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2)[near] * PIXEL_SCALE
    x, y = torch.zeros(2, 1) if offset is None else torch.from_numpy(offset.astype(np.float32)).T
    distance = torch.hypot(axis - x[:, None, None], axis[:, None] - y[:, None, None])
    inside = (0.5 + (FIBRE_RADIUS - distance) / PIXEL_SCALE).clamp(0, 1)  # share of the pixel
    return (image[..., near, near] * inside[:, None]).sum((2, 3)).numpy()
