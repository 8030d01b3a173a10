"""Brightness of galaxies: aperture fluxes of images, filter and band fluxes of spectra."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from speclite.filters import load_filter

from ..units import SPEED_OF_LIGHT
from .images import Images
from .spectra import Spectra

APERTURES = (0.75, 1.05, 1.5, 2.2, 3.0, 4.4, 6.0, 9.0)  # radii, arcsec
SOFTENING = 0.5  # nanomaggies, 23 mag: fluxes below count linearly, above by their ratio (arcsinh)
FILTERS = ("decam2014-g", "decam2014-r", "decam2014-z")
BAND_EDGES = tuple(np.linspace(3600, 9824, 25).tolist())  # Å, observed frame
COVERAGE_LIMIT = 0.3  # a filter seen through less of its response is not measured

_LEAST = 1e-2  # pixels; less of a ring says nothing

# f_λ of a source of 1 nanomaggy (3631e-9 Jy), times λ², in 1e-17 erg/s/cm²/Å × Å²:
# 3631e-32 erg/s/cm²/Hz × c [Å/s] / 1e-17
_NANOMAGGY = 3631e-32 * SPEED_OF_LIGHT * 1e13 / 1e-17


def aperture_fluxes(
    images: Images, radii: tuple[float, ...] = APERTURES
) -> Float[np.ndarray, "B 3 A"]:
    """Flux inside circles around the centre of each image, in nanomaggies.

    Pixels on a circle's edge count with the exact area inside. Masked pixels, and the part of a
    circle outside the image, take the mean brightness of the good pixels of their ring (between
    one radius and the next). A ring without any takes that of the next good ring outside, a
    lower limit for a saturated core; with none outside, as in padding, it adds nothing.

    Args:
        images: Cutouts with `kind="flux"`.
        radii: Increasing radii in arcsec.

    Raises:
        ValueError: If the radii do not increase from 0, or the images are not fluxes.
    """
    if images.kind != "flux":
        raise ValueError("apertures need nanomaggies; convert with survey.rgb.to_flux first")
    if not radii or (np.diff((0.0, *radii)) <= 0).any():
        raise ValueError(f"radii are {radii}; expected positive, increasing arcsec")
    rings = np.empty((len(images), 3, len(radii)), dtype=np.float32)
    for scale in np.unique(images.pixel_scale):
        rows = np.flatnonzero(images.pixel_scale == scale)
        whole = len(rows) == len(images)
        rings[rows] = _ring_fluxes(images if whole else images[rows], float(scale), radii)
    return rings.cumsum(axis=2)


def colours_and_growth(light: Float[np.ndarray, "B 3 A"]) -> Float[np.ndarray, "B F"]:
    """Differences between bands, then from aperture to aperture, of arcsinh of flux."""
    steps = [np.diff(light, axis=axis).reshape(len(light), -1) for axis in (1, 2)]
    return np.concatenate(steps, axis=1)


def _ring_fluxes(
    images: Images, scale: float, radii: tuple[float, ...]
) -> Float[np.ndarray, "B 3 A"]:
    weights = _ring_weights(images.flux.shape[2:], scale, radii)
    totals = (images.flux.reshape(-1, len(weights)) @ weights).reshape(len(images), 3, -1)
    if not images.mask.any():
        seen = np.broadcast_to(weights.sum(axis=0), totals.shape)
    else:
        good = (~images.mask).reshape(-1, len(weights)).astype(np.float32)
        seen = (good @ weights).reshape(totals.shape)
    empty = seen < _LEAST
    brightness = np.where(empty, 0, totals / np.maximum(seen, _LEAST))
    for ring in range(len(radii) - 2, -1, -1):
        outer = brightness[..., ring + 1]
        brightness[..., ring] = np.where(empty[..., ring], outer, brightness[..., ring])
    area = np.pi * np.diff(np.square((0.0, *radii)) / scale**2)
    return (brightness * area).astype(np.float32)


@lru_cache(maxsize=64)
def _ring_weights(
    shape: tuple[int, int], scale: float, radii: tuple[float, ...]
) -> Float[np.ndarray, "P A"]:
    """Area of each pixel (row) inside each ring between successive radii (column)."""
    y, x = (np.arange(n + 1) - n / 2 for n in shape)  # pixel edges from the image's centre
    inside = [_circle_corner(x[None, :], y[:, None], radius / scale) for radius in radii]
    areas = np.stack([np.diff(np.diff(corner, axis=0), axis=1) for corner in inside])
    rings = np.diff(areas, axis=0, prepend=0).reshape(len(radii), -1).T
    return np.ascontiguousarray(rings, dtype=np.float32)


def _circle_corner(
    x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."], radius: float
) -> Float[np.ndarray, "..."]:
    """Area that the rectangle from (0, 0) to (x, y) shares with a circle around (0, 0).

    Odd in x and in y, so that differences over a pixel's four corners give its area inside.
    """
    sign = np.sign(x) * np.sign(y)
    x, y = np.minimum(np.abs(x), radius), np.minimum(np.abs(y), radius)
    bend = np.sqrt((radius - y) * (radius + y))  # where the circle cuts the rectangle's top

    def integral(u: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        rest = (radius - u) * (radius + u)  # never below 0, unlike a difference of squares
        return (u * np.sqrt(rest) + radius**2 * np.arcsin(u / radius)) / 2

    return sign * (np.minimum(x, bend) * y + integral(np.maximum(x, bend)) - integral(bend))


def filter_fluxes(
    spectra: Spectra, filters: tuple[str, ...] = FILTERS
) -> tuple[Float[np.ndarray, "B F"], Float[np.ndarray, "B F"]]:
    """AB fluxes through filter curves, with inverse variance, in nanomaggies.

    Photon-counting convention (Bessell & Murphy 2012, eq. A11). Where pixels are masked or a
    curve reaches past the spectrum, the AB mean is over the part that is seen: DESI ends at
    9824 Å and misses 8 % of DECam z, SDSS at 9200 Å and misses half. Under 30 % of a filter's
    response, flux and inverse variance are 0.

    Args:
        spectra: Spectra on any grid.
        filters: Names that `speclite` knows; DECam g, r, z if left out.
    """
    flux = np.zeros((len(spectra), len(filters)), dtype=np.float32)
    ivar = np.zeros_like(flux)
    for rows, wavelength in spectra.by_grid():
        response = _responses(wavelength, filters)
        width = np.gradient(wavelength)[:, None]
        photons = (response * wavelength[:, None] * width).astype(np.float32)
        ab = _NANOMAGGY * response / wavelength[:, None] * width
        good = ~spectra.mask[rows]
        seen = good.astype(np.float32) @ ab.astype(np.float32)
        variance = (good / np.where(good, spectra.ivar[rows], 1)) @ photons**2
        measured = (seen > COVERAGE_LIMIT * _ab_totals(filters)) & (variance > 0)
        flux[rows] = np.where(
            measured, spectra.flux[rows] @ photons / np.where(measured, seen, 1), 0
        )
        ivar[rows] = np.where(measured, seen**2 / np.where(measured, variance, 1), 0)
    return flux, ivar


def _responses(
    wavelength: Float[np.ndarray, "L"], filters: tuple[str, ...]
) -> Float[np.ndarray, "L F"]:
    curves = [load_filter(name) for name in filters]
    return np.stack(
        [np.interp(wavelength, c.wavelength, c.response, left=0, right=0) for c in curves], axis=1
    )


@lru_cache
def _ab_totals(filters: tuple[str, ...]) -> Float[np.ndarray, "F"]:
    """Photons of a nanomaggy through each whole curve."""
    curves = [load_filter(name) for name in filters]
    return np.array(
        [_NANOMAGGY * np.trapezoid(c.response / c.wavelength, c.wavelength) for c in curves]
    )


def band_fluxes(
    spectra: Spectra, edges: tuple[float, ...] = BAND_EDGES
) -> tuple[Float[np.ndarray, "B N"], Float[np.ndarray, "B N"]]:
    """Mean flux density between successive wavelength edges, weighted by ivar, and its ivar.

    Units are those of `spectra`. A band without a good pixel has flux 0 and ivar 0.

    Args:
        spectra: Spectra on any grid.
        edges: Increasing wavelengths in Å, observed frame; N + 1 of them make N bands.
    """
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"band edges are {edges}; expected two or more, increasing, in Å")
    flux = np.empty((len(spectra), len(edges) - 1), dtype=np.float32)
    ivar = np.empty_like(flux)
    for rows, wavelength in spectra.by_grid():
        band = np.digitize(wavelength, edges) - 1
        member = (band[:, None] == np.arange(len(edges) - 1)).astype(np.float32)
        ivar[rows] = spectra.ivar[rows] @ member
        total = (spectra.flux[rows] * spectra.ivar[rows]) @ member
        flux[rows] = total / np.where(ivar[rows] > 0, ivar[rows], 1)
    return flux, ivar
