"""Redshifts by least squares: linear combinations of templates, at every redshift.

What the pipelines of SDSS (Bolton et al. 2012, AJ 144, 144) and DESI (redrock) do. A class of
objects is a set of templates, and an object is of the class that fits best.

Shapes: B spectra, L bins of the observed window, M bins at rest, K templates, P polynomials,
D = K + P, S redshifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from ..survey.spectra import Spectra
from .log_grid import LogGrid, highest_peaks, rebin
from .rest import GREY, RestConfig, RestSpace

GRID = LogGrid()  # the observed window
BATCH = 16  # spectra at once: 40 MB of matrices at 2,000 redshifts
RIDGE = 1e-6  # of the mean diagonal, added to it: where little is seen, templates are alike


@dataclass(frozen=True, eq=False)
class Scan:
    """How well templates fit at each redshift.

    Attributes:
        log1p_redshift: ln(1 + z), falling from bin to bin.
        gain: By how much the templates lower chi² from that of polynomials alone.
        alone: chi² of polynomials alone.
        bins: Bins that were seen.
    """

    log1p_redshift: Float[Tensor, "S"]
    gain: Float[Tensor, "B S"]
    alone: Float[Tensor, "B"]
    bins: Float[Tensor, "B"]

    @property
    def chi2(self) -> Float[np.ndarray, "B"]:
        """Of the best redshift, per bin."""
        return ((self.alone - self.gain.amax(1)) / self.bins).numpy()

    def proposals(self, k: int = 5) -> tuple[Float[np.ndarray, "B k"], Float[np.ndarray, "B k"]]:
        """The k best redshifts, best first, and their gains; NaN where there are fewer peaks."""
        bin = float(self.log1p_redshift[0] - self.log1p_redshift[1])
        place, gain = highest_peaks(self.gain, k, bin)
        return np.expm1((self.log1p_redshift[0] - bin * place).numpy()), gain.numpy()


@dataclass(frozen=True, eq=False)
class Eigenspectra:
    """Templates of one class of objects.

    Attributes:
        templates: Flux at rest in bins of ln(wavelength), as wide as the observed ones.
        blue: Å, where the first bin of the templates begins.
        polynomials: How many are added to the templates, for calibration that errs.
    """

    templates: Float[Tensor, "K M"]
    blue: float
    polynomials: int = 3

    @classmethod
    def from_arrays(
        cls, wavelength: Float[np.ndarray, "N"], flux: Float[np.ndarray, "K N"]
    ) -> "Eigenspectra":
        """Templates of others, with wavelengths in Å at rest, in vacuum."""
        blue = float(wavelength[0])
        bins = int(np.log(wavelength[-1] / blue) / GRID.bin)
        spectra = Spectra.from_arrays(flux, wavelength=wavelength, ivar=np.ones(len(wavelength)))
        return cls(_unit(rebin(spectra, LogGrid(GRID.bin, blue, bins))[0]), blue)

    @classmethod
    def learn(
        cls, spectra: Spectra, redshift: Float[np.ndarray, "B"], config: RestConfig
    ) -> "Eigenspectra":
        """Mean and principal components of spectra of known redshift (`RestSpace`).

        Raises:
            ValueError: If the bins at rest are not as wide as the observed ones, or spectra few.
        """
        if config.bin != GRID.bin:
            raise ValueError(f"bins at rest are {config.bin} wide; expected {GRID.bin}")
        space = RestSpace(config).fit(spectra, redshift)
        return cls(_unit(torch.cat([space.mean[None], space.components.T])), config.blue)

    @property
    def highest(self) -> float:
        """Redshift beyond which the observed window is bluer than the templates."""
        return GRID.blue / self.blue - 1

    def scan(self, spectra: Spectra, low: float, high: float) -> Scan:
        """Fits at every redshift from `low` to `high`.

        As in `high_pass` and `RestSpace`, flux is limited to -5 ... 20 of its median, and every
        bin has a relative error of 3 % besides its own.

        Raises:
            ValueError: If the range is empty or beyond what the templates reach.
        """
        if not -1 < low < high <= self.highest + GRID.bin:
            raise ValueError(
                f"redshifts {low} to {high}: expected a range that rises and ends at "
                f"{self.highest:.4g}, since the templates begin at {self.blue:.0f} Å"
            )
        zero = np.log1p(self.highest)
        first, last = (max(int(np.rint((zero - np.log1p(z)) / GRID.bin)), 0) for z in (high, low))
        shifts = slice(first, last + 1)
        parts = [self._fit(spectra[i : i + BATCH], shifts) for i in range(0, len(spectra), BATCH)]
        gain, alone, bins = (torch.cat(part) for part in zip(*parts, strict=True))
        steps = torch.arange(first, last + 1, dtype=torch.float64)
        return Scan(zero - GRID.bin * steps, gain, alone, bins)

    def _fit(
        self, spectra: Spectra, shifts: slice
    ) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B"], Float[Tensor, "B"]]:
        flux, weight = self._weighted(spectra)
        place = np.linspace(-1, 1, GRID.bins)
        legendre = np.polynomial.legendre.legvander(place, self.polynomials - 1)
        curves, count = torch.from_numpy(legendre.T), len(self.templates)
        matrix = self._matrix(weight, curves, shifts)
        moment = self._moment(weight * flux, curves, shifts)
        both = _explained(matrix, moment)
        fixed = _explained(matrix[:, 0, count:, count:], moment[:, 0, count:])
        alone = (weight * flux**2).sum(1) - fixed
        return both - fixed[:, None], alone, (weight > 0).double().sum(1)

    def _weighted(self, spectra: Spectra) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
        """Flux relative to its median and inverse variances."""
        flux, ivar = (x.double() for x in rebin(spectra, GRID))
        scale = flux.abs().where(ivar > 0, torch.nan).nanmedian(1, keepdim=True).values
        scale = scale.clamp(min=1e-6)
        ivar = ivar * scale**2
        return (flux / scale).clamp(-5, 20), ivar / (1 + ivar * GREY**2)

    def _matrix(
        self, weight: Float[Tensor, "B L"], curves: Float[Tensor, "P L"], shifts: slice
    ) -> Float[Tensor, "B S D D"]:
        """Normal matrices: templates, polynomials, and both."""
        templates, count = self.templates.double(), len(self.templates)
        i, j = torch.triu_indices(count, count)
        squares = _overlap(weight, templates[i] * templates[j], shifts)
        mixed = _overlap(weight[:, None] * curves, templates, shifts)
        size = count + len(curves)
        matrix = weight.new_empty(len(weight), squares.shape[-1], size, size)
        matrix[..., i, j] = matrix[..., j, i] = squares.mT
        matrix[..., count:, :count] = mixed.permute(0, 3, 1, 2)
        matrix[..., :count, count:] = mixed.permute(0, 3, 2, 1)
        fixed = torch.einsum("bl,pl,ql->bpq", weight, curves, curves)
        matrix[..., count:, count:] = fixed[:, None]
        return matrix

    def _moment(
        self, data: Float[Tensor, "B L"], curves: Float[Tensor, "P L"], shifts: slice
    ) -> Float[Tensor, "B S D"]:
        moving = _overlap(data, self.templates.double(), shifts).mT
        fixed = (data @ curves.T)[:, None].expand(-1, moving.shape[1], -1)
        return torch.cat([moving, fixed], 2)


def _overlap(
    data: Float[Tensor, "... L"], templates: Float[Tensor, "K M"], shifts: slice
) -> Float[Tensor, "... K S"]:
    """Sums over data times templates, these shifted to the blue by each of `shifts` bins."""
    longest = max(templates.shape[1], shifts.stop + data.shape[-1])
    size = int(next_fast_len(longest, real=True))
    product = torch.fft.rfft(data, size).conj()[..., None, :] * torch.fft.rfft(templates, size)
    return torch.fft.irfft(product, size)[..., shifts]


def _explained(
    matrix: Float[Tensor, "*B D D"], moment: Float[Tensor, "*B D"]
) -> Float[Tensor, "*B"]:
    """By how much the best combination lowers chi² from that of nothing."""
    size = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    ridge = (RIDGE * size + 1e-9) * torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    return (torch.linalg.solve(matrix + ridge, moment) * moment).sum(-1)


def _unit(templates: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
    """Templates of unit root mean square."""
    return templates / templates.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
