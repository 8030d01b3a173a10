"""Spectra of galaxies above the atmosphere: stars and gas, dust, motions, redshift, fibre.

Shapes: B galaxies, L pixels of the DESI grid, R pixels of the rest-frame grid `ssp.WAVELENGTH`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...units import DESI_PIXELS, DESI_START, DESI_STEP, SPEED_OF_LIGHT, desi_grid
from .brightness import SOLAR_LUMINOSITY
from .cosmology import luminosity_distance
from .dust import magnitudes_per_av
from .gas import LINE_WAVELENGTH
from .population import Population
from .ssp import LOG_STEP, OPTICAL, WAVELENGTH, stellar_grid
from .table import Table

INSTRUMENT_SIGMA = 0.8  # Å, DESI's line spread, nearly the same at all wavelengths
FLUX_SCALE = 1e17  # spectra are in 1e-17 erg/s/cm²/Å
# Velocity dispersion of stars: log10 km/s at log M = 11 of mass formed, dex/dex, scatter in dex.
DISPERSION, GAS_DISPERSION = (2.22, 0.28, 0.06), 0.55  # of gas over that of stars
LINE_REACH = 48  # pixels on either side of a line's centre: 4.6 σ of the broadest

Galaxies = Float[np.ndarray, "B"]


@dataclass(frozen=True, eq=False)
class Motions(Table):
    """Velocity dispersions of stars and of gas, km/s."""

    stars: Galaxies
    gas: Galaxies


def draw_motions(log_mass: Galaxies, rng: np.random.Generator) -> Motions:
    """A Faber & Jackson (1976) relation with mass; gas moves at about half the dispersion."""
    n, (at_pivot, slope, scatter) = len(log_mass), DISPERSION
    log_sigma = at_pivot + slope * (log_mass - 11) + scatter * rng.standard_normal(n)
    stars = np.clip(10**log_sigma, 40, 380)
    gas = GAS_DISPERSION * stars * rng.lognormal(0, 0.2, n)
    return Motions(stars=stars, gas=np.clip(gas, 40, 250))


def starlight(galaxies: Population, sigma: Galaxies) -> Float[Tensor, "B R"]:
    """Spectra behind dust, broadened by `sigma` km/s; rest frame, L☉/Å per M☉ formed.

    On the whole of `ssp.WAVELENGTH`, or its optical part if no galaxy shows more.
    """
    pixels = OPTICAL if galaxies.redshift.max() < 0.6 else slice(None)
    light = stellar_grid().composite(galaxies.log_zsol, galaxies.mass_fraction, pixels)
    opacity = torch.from_numpy(magnitudes_per_av(WAVELENGTH[pixels]).astype(np.float32))
    a_v = torch.from_numpy(galaxies.a_v.astype(np.float32))[:, None]
    return broaden(light * torch.exp(-0.4 * np.log(10) * a_v * opacity), sigma)


def broaden(light: Float[Tensor, "B R"], sigma: Galaxies) -> Float[Tensor, "B R"]:
    """Convolves spectra even in ln(wavelength) with Gaussian velocities of `sigma` km/s.

    The ends wrap around; `WAVELENGTH` reaches far enough past what is observed.
    """
    pixels = torch.from_numpy((sigma / SPEED_OF_LIGHT / LOG_STEP).astype(np.float32))
    frequency = 2 * torch.pi * torch.fft.rfftfreq(light.shape[1])
    transfer = torch.exp(-((frequency * pixels[:, None]) ** 2) / 2)
    return torch.fft.irfft(torch.fft.rfft(light) * transfer, n=light.shape[1])


def observe(light: Float[Tensor, "B R"], z: Galaxies, log_mass: Galaxies) -> Float[Tensor, "B L"]:
    """Redshifts rest-frame spectra of 1 M☉ to the DESI grid, 1e-17 erg/s/cm²/Å in total."""
    first = WAVELENGTH[-light.shape[1]]  # of starlight; both end alike
    position = (np.log(desi_grid() / first) - np.log1p(z)[:, None]) / LOG_STEP
    below = position.astype(np.int64)
    part = torch.from_numpy((position - below).astype(np.float32))
    index = torch.from_numpy(below)
    flux = torch.lerp(light.gather(1, index), light.gather(1, index + 1), part)
    dimming = 10**log_mass * SOLAR_LUMINOSITY * _per_area(z) / (1 + z)
    return flux * torch.from_numpy(dimming.astype(np.float32))[:, None]


def add_lines(
    flux: Float[Tensor, "B L"],
    luminosity: Float[np.ndarray, "B K"],
    z: Galaxies,
    sigma: Galaxies,
) -> None:
    """Adds emission lines of `luminosity` erg/s and `sigma` km/s to spectra on the DESI grid."""
    center = LINE_WAVELENGTH * (1 + z[:, None])
    width = np.hypot(center * sigma[:, None] / SPEED_OF_LIGHT, INSTRUMENT_SIGMA)
    total = luminosity * _per_area(z)[:, None]
    padded = torch.nn.functional.pad(flux, (LINE_REACH, LINE_REACH)).numpy()
    rows = np.arange(len(z))[:, None]
    for k in range(len(LINE_WAVELENGTH)):
        seen, pixels = _line_pixels(center[:, k])
        offset = DESI_START + DESI_STEP * pixels - center[seen, k, None]
        profile = np.exp(-((offset / width[seen, k, None]) ** 2) / 2)
        height = total[seen, k] / (np.sqrt(2 * np.pi) * width[seen, k])
        padded[rows[seen], pixels + LINE_REACH] += height[:, None] * profile
    flux.copy_(torch.from_numpy(padded[:, LINE_REACH:-LINE_REACH]))


def _line_pixels(
    center: Galaxies,
) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S P"]]:
    """Galaxies whose line falls on the grid, and the pixels around it."""
    middle = np.round((center - DESI_START) / DESI_STEP).astype(int)
    seen = np.flatnonzero((middle >= 0) & (middle < DESI_PIXELS))
    return seen, middle[seen, None] + np.arange(-LINE_REACH, LINE_REACH + 1)


def _per_area(z: Galaxies) -> Galaxies:
    """Factor from luminosity in erg/s to flux in 1e-17 erg/s/cm²."""
    return FLUX_SCALE / (4 * np.pi * luminosity_distance(z) ** 2)
