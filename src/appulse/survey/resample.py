"""Images to another pixel scale or size, spectra to another wavelength grid; flux is conserved."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import CubicSpline
from scipy.sparse import csr_array

from ..units import PIXEL_SCALE, desi_grid
from .bounded import require_size
from .images import Images
from .rows import mostly_masked
from .spectra import Spectra

SCALE_TOLERANCE = 0.01  # a smaller relative difference in pixel scale is left alone
GAP = 1.5  # steps: where wavelengths are further apart, there are pixels missing
SEEN = 0.5  # a new pixel is masked if less of it is covered by good old ones


def to_scale(images: Images, scale: float = PIXEL_SCALE) -> Images:
    """Images resampled to `scale` arcsec per pixel, about their centres.

    Nanomaggies per pixel follow the pixel's area, so that sources keep their flux; red, green
    and blue are averaged. The integral of flux along each axis is interpolated by a cubic spline
    and differenced at the new pixels' edges, which conserves flux exactly and keeps widths. The
    new size has the old one's parity and lies inside the old image. Rows that differ in scale by
    less than 1 % are only relabelled.

    Raises:
        ValueError: If rows of different scales would end up with different sizes.
    """
    relative = images.pixel_scale / scale
    if (np.abs(relative - 1) < SCALE_TOLERANCE).all():
        return replace(images, pixel_scale=np.full(len(images), float(scale)))
    parts = [_rescale(images[i], float(ratio), scale) for i, ratio in enumerate(relative)]
    return Images.concatenate(parts)


def _rescale(image: Images, ratio: float, scale: float) -> Images:
    y, x = (_axis_weights(n, ratio) for n in image.flux.shape[2:])
    good = (~image.mask).astype(np.float32)
    flux = y @ image.filled() @ x.T
    if image.kind == "rgb":
        flux = np.clip(flux * ratio**2, 0, 1)
    fine_y, fine_x = (_axis_overlaps(n, ratio) for n in image.flux.shape[2:])
    mask = fine_y @ good @ fine_x.T < SEEN / ratio**2
    return replace(
        image,
        flux=np.where(mask, 0, flux).astype(np.float32),
        mask=mask,
        pixel_scale=np.full(1, float(scale)),
    )


def _axis_edges(n: int, ratio: float) -> Float[np.ndarray, "M"]:
    """Edges of the new pixels along an axis of `n` old ones, in old pixels from the start."""
    fits = int(n * ratio + 1e-6)
    new = fits - (fits - n) % 2
    if new < 1:
        raise ValueError(f"{n} pixels of {ratio:.3g} times the new pixels' size make no image")
    require_size(12 * new**2, f"an image of {n} pixels of {ratio:.3g} times the new pixels' size")
    return np.clip(n / 2 + (np.arange(new + 1) - new / 2) / ratio, 0, n)


@lru_cache(maxsize=32)
def _axis_weights(n: int, ratio: float) -> Float[np.ndarray, "M N"]:
    """Flux in each new pixel (row) per flux in each old one (column)."""
    integral = np.concatenate([np.zeros((1, n)), np.tril(np.ones((n, n)))])
    spline = CubicSpline(np.arange(n + 1), integral, bc_type="natural")
    return np.diff(spline(_axis_edges(n, ratio)), axis=0).astype(np.float32)


@lru_cache(maxsize=32)
def _axis_overlaps(n: int, ratio: float) -> Float[np.ndarray, "M N"]:
    """Length of each old pixel (column) inside each new one (row), in old pixels."""
    edges, old = _axis_edges(n, ratio), np.arange(n)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return np.maximum(overlap, 0).astype(np.float32)


def fit(images: Images, size: int) -> Images:
    """The central `size` × `size` pixels; where there are fewer, padding that the mask shows.

    Where a pixel is left over, the choice is torchvision's `CenterCrop`, which AstroCLIP uses.
    """
    height, width = images.flux.shape[2:]
    (y, pad_y), (x, pad_x) = _centred(height, size), _centred(width, size)
    flux, mask = images.flux[:, :, y, x], images.mask[:, :, y, x]
    if any(pad_y + pad_x):
        pad = ((0, 0), (0, 0), pad_y, pad_x)
        flux, mask = np.pad(flux, pad), np.pad(mask, pad, constant_values=True)
    return replace(images, flux=flux, mask=mask)


def _centred(n: int, size: int) -> tuple[slice, tuple[int, int]]:
    """The part of `n` pixels to keep, and how many to add before and after."""
    if n < size:
        before = (size - n) // 2
        return slice(0, n), (before, size - n - before)
    start = round((n - size) / 2)  # half to even, as torchvision
    return slice(start, start + size), (0, 0)


def to_grid(spectra: Spectra, grid: Float[np.ndarray, "M"] | None = None) -> Spectra:
    """Spectra rebinned to one wavelength grid, DESI's if left out; see `rebin`.

    Raises:
        ValueError: Naming the rows of which the grid sees less than half.
    """
    grid = desi_grid() if grid is None else grid
    shape = (len(spectra), len(grid))
    flux, ivar = np.empty(shape, np.float32), np.empty(shape, np.float32)
    mask = np.empty(shape, bool)
    for rows, old in spectra.by_grid():
        if len(old) == len(grid) and np.allclose(old, grid, rtol=0, atol=1e-3):
            new = spectra.flux[rows], spectra.ivar[rows], spectra.mask[rows]
        else:
            new = rebin(old, spectra.flux[rows], spectra.ivar[rows], spectra.mask[rows], grid)
        flux[rows], ivar[rows], mask[rows] = new
    mostly_masked(spectra.ids, mask, "spectrum")
    wavelength = np.broadcast_to(grid, shape)
    return replace(spectra, wavelength=wavelength, flux=flux, ivar=ivar, mask=mask)


def rebin(
    wavelength: Float[np.ndarray, "L"],
    flux: Float[np.ndarray, "B L"],
    ivar: Float[np.ndarray, "B L"],
    mask: Bool[np.ndarray, "B L"],
    grid: Float[np.ndarray, "M"],
) -> tuple[Float[np.ndarray, "B M"], Float[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
    """Flux density, its inverse variance and mask on another wavelength grid.

    A new pixel is the mean of the good old ones weighted by overlap w, so that integrated flux
    is conserved (as SpectRes, Carnall 2017); its variance is Σ w² var / (Σ w)². Neighbouring new
    pixels share old ones: their covariance is ignored, so χ² over finer grids is too small. A
    new pixel is masked if less than half of it is covered; nothing covers a gap, where old ones
    are more than 1.5 steps apart.

    Args:
        wavelength: Centres of the old pixels, increasing; edges lie halfway between them.
        flux: Flux density, any unit.
        ivar: Inverse variance of `flux`.
        mask: True for pixels to leave out; so are those with ivar 0.
        grid: Centres of the new pixels, increasing.
    """
    edges, pixels = _edges_and_pixels(wavelength)
    overlap = _overlaps(edges, pixel_edges(grid))[:, pixels]
    good = ~mask & (ivar > 0)
    seen = (overlap @ good.T.astype(np.float64)).T
    total = (overlap @ np.where(good, flux, 0).T.astype(np.float64)).T
    variance = (overlap**2 @ (good / np.where(good, ivar, 1)).T.astype(np.float64)).T
    bad = seen < SEEN * np.diff(pixel_edges(grid))
    new_flux = np.where(bad, 0, total / np.where(bad, 1, seen))
    new_ivar = np.where(bad, 0, seen**2 / np.where(bad, 1, variance))
    return new_flux.astype(np.float32), new_ivar.astype(np.float32), bad


def pixel_edges(centres: Float[np.ndarray, "L"]) -> Float[np.ndarray, "M"]:
    """Edges of pixels: halfway between centres, and as far out again at both ends."""
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _edges_and_pixels(
    centres: Float[np.ndarray, "L"],
) -> tuple[Float[np.ndarray, "M"], Int[np.ndarray, "L"]]:
    """Edges of the pixels and of the gaps between them, and which are the pixels.

    A step is a gap if it is longer than those before and after it, or the ones beyond: an arm of
    longer pixels is none, a pixel alone between two gaps has two.
    """
    step = np.diff(centres)
    far = np.pad(step, 2, constant_values=np.inf)
    before, after = np.minimum(far[:-4], far[1:-3]), np.minimum(far[3:-1], far[4:])
    gaps = np.flatnonzero(step > GAP * np.maximum(before, after))
    edges = np.delete(pixel_edges(centres), gaps + 1)
    ends = centres[gaps] + before[gaps] / 2, centres[gaps + 1] - after[gaps] / 2
    pixels = np.arange(len(centres))
    return np.sort(np.concatenate([edges, *ends])), pixels + np.searchsorted(gaps, pixels)


def _overlaps(old: Float[np.ndarray, "..."], new: Float[np.ndarray, "..."]) -> csr_array:
    """Length that each old pixel (column) and each new one (row) share, from their edges."""
    edges = np.union1d(old, new)
    edges = edges[(edges >= max(old[0], new[0])) & (edges <= min(old[-1], new[-1]))]
    middle = (edges[1:] + edges[:-1]) / 2
    rows, columns = np.searchsorted(new, middle) - 1, np.searchsorted(old, middle) - 1
    shape = (len(new) - 1, len(old) - 1)
    return csr_array((np.diff(edges), (rows, columns)), shape=shape)
