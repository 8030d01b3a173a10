"""Structure of galaxies in numbers that need no model: profiles, colours, and azimuthal modes.

How light grows from aperture to aperture tells disks from spheroids. Disks at an angle, bars and
arms make the light in a ring vary twice around; a bar's two maxima lie on one line from ring to
ring, an arm's turn (Elmegreen & Elmegreen 1985; Laurikainen et al. 2004).

Shapes: B galaxies, P pixels, R rings, M modes, S numbers in all.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Complex, Float

from ..units import PIXEL_SCALE
from .images import Images
from .photometry import APERTURES, SOFTENING, aperture_fluxes, colours_and_growth
from .resample import to_scale
from .rgb import to_flux
from .spectra import Spectra

RINGS = (0.4, 1.0, 1.5, 2.0, 2.6, 3.3, 4.2, 5.2, 6.5, 8.0, 9.4)  # edges, arcsec
MODES = (0, 1, 2, 3)  # maxima around a ring
LAGS = (1, 2)  # rings apart, whose phases of mode 2 are compared
FAINT = 0.02  # nanomaggies per pixel, softening of g, r and z's mean: arms count beside the core
SETTINGS = {"rings": RINGS, "modes": MODES, "lags": LAGS, "faint": FAINT, "apertures": APERTURES}
_WHOLE = 0.5  # a ring of which less is seen says nothing
_LEAST = 0.02  # amplitude whose phase is noise


def structure(images: Images) -> Float[np.ndarray, "B S"]:
    """Colours in apertures, growth from aperture to aperture, then `azimuthal_modes`."""
    images = to_scale(to_flux(images))
    light = np.arcsinh(aperture_fluxes(images) / SOFTENING)
    return np.hstack([colours_and_growth(light), azimuthal_modes(images)]).astype(np.float32)


def structure_of(galaxies: Images | Spectra) -> Float[np.ndarray, "B S"]:
    """Structure of images; of spectra nothing, S is 0."""
    if isinstance(galaxies, Images):
        return structure(galaxies)
    return np.empty((len(galaxies), 0), np.float32)


def azimuthal_modes(images: Images) -> Float[np.ndarray, "B S"]:
    """Amplitudes by ring and mode; then how phases of mode 2 turn from ring to ring.

    They are of arcsinh of the mean of g, r and z [nanomaggies, pixels of 0.262″], and the same for
    a galaxy turned or mirrored. For two rings the cosine of the phases' difference and the size of
    its sine follow, both times the geometric mean of the amplitudes. Rings that are mostly masked,
    or outside the image, have 0.
    """
    modes = _modes(np.arcsinh(images.filled().mean(axis=1) / FAINT))
    seen = _seen(np.logical_not(images.mask.any(axis=1)))
    modes = np.where(seen[..., None], modes, 0)
    turns = [_turn(modes[:, lag:, 2], modes[:, :-lag, 2]) for lag in LAGS]
    return np.hstack([np.abs(modes).reshape(len(images), -1), *turns]).astype(np.float32)


def _modes(light: Float[np.ndarray, "B y x"]) -> Complex[np.ndarray, "B R M"]:
    """Mean of light times exp(imθ) over each ring."""
    ring, wave = _rings(light.shape[1:])
    total = light.reshape(len(light), -1) @ wave
    area = np.maximum(ring.sum(axis=0), 1)[:, None]
    return total.view(np.complex64).reshape(len(light), -1, len(MODES)) / area


def _seen(good: Bool[np.ndarray, "B y x"]) -> Bool[np.ndarray, "B R"]:
    """Rings of which enough is inside the image and good."""
    ring, _ = _rings(good.shape[1:])
    whole = np.pi * np.diff(np.square(RINGS)) / PIXEL_SCALE**2
    return good.reshape(len(good), -1).astype(np.float32) @ ring > _WHOLE * whole


def _turn(
    outer: Complex[np.ndarray, "B R"], inner: Complex[np.ndarray, "B R"]
) -> Float[np.ndarray, "B S"]:
    product = outer * inner.conj()
    product = product / (np.sqrt(np.abs(product)) + _LEAST)
    return np.hstack([product.real, np.abs(product.imag)])


@lru_cache(maxsize=8)
def _rings(shape: tuple[int, ...]) -> tuple[Float[np.ndarray, "P R"], Float[np.ndarray, "P _"]]:
    """Which pixel is in which ring; and that times real and imaginary part of each mode."""
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    radius = PIXEL_SCALE * np.hypot(x, y).ravel()
    edges = np.array(RINGS)
    ring = (radius[:, None] >= edges[:-1]) & (radius[:, None] < edges[1:])
    wave = np.exp(1j * np.arctan2(y, x).ravel()[:, None] * np.array(MODES))
    both = (ring[:, :, None] * wave[:, None]).reshape(len(radius), -1).astype(np.complex64)
    return ring.astype(np.float32), np.ascontiguousarray(both).view(np.float32)
