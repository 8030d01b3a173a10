"""Spectra on a grid uniform in ln(wavelength), where a redshift is a shift, and peaks over shifts.

Shapes: B spectra, L bins, S shifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..survey.spectra import Spectra

APART = 0.0033  # in ln(1 + z), of two proposals: 1000 km/s, as in redrock


@dataclass(frozen=True)
class LogGrid:
    """Bins in ln(wavelength) of the observed window."""

    bin: float = 6e-4  # in ln(wavelength)
    blue: float = 3600.0  # Å, where the first bin begins
    bins: int = 1672  # up to 9817 Å


def rebin(spectra: Spectra, grid: LogGrid) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Inverse-variance weighted mean flux in each bin, and its ivar, 0 where nothing was seen."""
    rows, shape = len(spectra), (len(spectra), grid.bins)
    index = np.floor(np.log(spectra.wavelength / grid.blue) / grid.bin).astype(np.int64)
    inside = (index >= 0) & (index < grid.bins)
    index = np.where(inside, index, 0) + grid.bins * np.arange(rows)[:, None]
    weight = np.where(inside, spectra.ivar, 0.0)
    ivar = np.bincount(index.ravel(), weight.ravel(), rows * grid.bins)
    total = np.bincount(index.ravel(), (weight * spectra.flux).ravel(), rows * grid.bins)
    flux = total / np.maximum(ivar, 1e-12)
    return torch.from_numpy(flux).float().view(shape), torch.from_numpy(ivar).float().view(shape)


def highest_peaks(
    curve: Float[Tensor, "B S"], k: int, bin: float
) -> tuple[Float[Tensor, "B k"], Float[Tensor, "B k"]]:
    """Places of the k highest peaks, best first, by a parabola between bins; and their heights.

    A peak is the highest value within `APART`, which is so many bins of width `bin`. Where there
    are fewer than k, places and heights are NaN.
    """
    reach = round(APART / bin)
    near = F.max_pool1d(curve[:, None], 2 * reach + 1, 1, reach)[:, 0]
    height, place = curve.where(curve == near, -torch.inf).topk(k, 1)
    last = curve.shape[1] - 1
    left, right = (curve.gather(1, (place + step).clamp(0, last)) for step in (-1, 1))
    bend = (2 * height - left - right).clamp(min=1e-12)
    offset = ((right - left) / (2 * bend)).clamp(-0.5, 0.5)
    found = height.isfinite()
    return (place + offset).where(found, torch.nan), height.where(found, torch.nan)
