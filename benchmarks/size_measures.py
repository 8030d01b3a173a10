"""Sizes and axis ratios of galaxies on images, the same code for real and for simulated ones.

Shapes: y and x pixels, R radii. Radii are in the units of `scale`, the width of a pixel.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import label

Image = Float[np.ndarray, "y x"]

PETROSIAN_RATIO, PETROSIAN_RADII = 0.2, 2.0  # of SDSS (Blanton et al. 2001)


class Growth(NamedTuple):
    """Radii, and the light inside them."""

    radius: Float[np.ndarray, "R"]
    light: Float[np.ndarray, "R"]

    def radius_of(self, share: float, aperture: float) -> float:
        """Radius that holds a share of the light inside an aperture."""
        total = np.interp(aperture, self.radius, self.light)
        reached = np.flatnonzero(self.light >= share * total)[0]
        pair = slice(max(reached - 1, 0), reached + 1)
        return float(np.interp(share * total, self.light[pair], self.radius[pair]))


def distances(shape: tuple[int, int], scale: float) -> Image:
    """Distance of each pixel from the middle of the image."""
    y, x = ((np.arange(n) - (n - 1) / 2) * scale for n in shape)
    return np.hypot(x, y[:, None])


def growth_curve(image: Image, scale: float, fine: int = 5) -> Growth:
    """Light inside circles about the middle, on pixels divided into `fine`² equal parts."""
    small = np.repeat(np.repeat(image, fine, axis=0), fine, axis=1) / fine**2
    ring = _half_pixels(image.shape, fine)
    light = np.bincount(ring.ravel(), small.ravel())[: min(image.shape) - 1]
    edges = np.arange(len(light) + 1) * scale / 2
    return Growth(edges, np.concatenate([[0.0], np.cumsum(light)]))


@cache
def _half_pixels(shape: tuple[int, int], fine: int) -> np.ndarray:
    """Whole half pixels from the middle, of each part of each pixel."""
    y, x = shape
    return (2 * distances((y * fine, x * fine), 1 / fine)).astype(int)


def petrosian_aperture(growth: Growth) -> float:
    """Two Petrosian (1976) radii, or NaN if that does not fit the image.

    The radius is where the surface brightness from .8 to 1.25 r is .2 of the mean inside r.
    """
    radius, light = growth
    r = radius[(radius > radius[2]) & (1.25 * radius < radius[-1])]
    low, high = 0.8 * r, 1.25 * r
    annulus = np.interp(high, radius, light) - np.interp(low, radius, light)
    ratio = annulus / (high**2 - low**2) / (np.interp(r, radius, light) / r**2)
    below = np.flatnonzero(ratio < PETROSIAN_RATIO)
    aperture = PETROSIAN_RADII * r[below[0]] if len(below) else np.inf
    return float(aperture) if aperture <= radius[-1] else float("nan")


def petrosian_radii(image: Image, scale: float) -> tuple[float, float]:
    """Radii that hold half and 90 % of the light in the Petrosian aperture."""
    growth = growth_curve(image, scale)
    aperture = petrosian_aperture(growth)
    if not np.isfinite(aperture):
        return float("nan"), float("nan")
    return growth.radius_of(0.5, aperture), growth.radius_of(0.9, aperture)


def central_region(inside: np.ndarray) -> np.ndarray:
    """The connected region that holds the middle of the image; empty if that is outside."""
    regions, _ = label(inside)
    middle = regions[tuple(n // 2 for n in inside.shape)]
    return (regions == middle) & (middle > 0)


def isophotal_radius(image: Image, scale: float, level: float) -> float:
    """Radius of a circle of the area of the central region above a level."""
    return float(np.sqrt(central_region(image > level).sum() / np.pi) * scale)


def isophotal_axis_ratio(image: Image, radius: float) -> float:
    """Minor over major axis of the isophote whose area is π `radius`², in pixels.

    It comes from second moments of the region, each of its pixels weighing the same: any
    monotonic stretch of the image leaves it as it is.
    """
    middle, reach = len(image) // 2, round(4 * radius)  # holds axis ratios down to 1/16
    near = slice(max(middle - reach, 0), middle + reach + len(image) % 2)
    image = image[near, near]
    high, low = float(image.max()), float(image.min())
    for _ in range(15):  # bisection of the level
        level = (low + high) / 2
        too_large = central_region(image > level).sum() > np.pi * radius**2
        low, high = (level, high) if too_large else (low, level)
    y, x = np.nonzero(central_region(image > low))
    if len(x) < 10:
        return float("nan")
    minor, major = np.linalg.eigvalsh(np.cov(x, y))
    return float(np.sqrt(minor / major))
