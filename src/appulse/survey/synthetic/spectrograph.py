"""Spectroscopic instrument: throughput, sky, noise and calibration in the manner of DESI.

The sky's noise is that of public spectra; a source's own photons are counted from telescope, time
and throughput.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from astropy import constants
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from ...units import DESI_PIXELS, desi_grid
from .table import Table
from .targets import BRIGHT_TIME

SKY_NOISE = 0.31  # 1e-17 erg/s/cm²/Å per pixel at 6500 Å in 180 s, between sky lines
LINE_STRENGTH = 3.3  # of sky lines, over the sky between them
MIRROR, PIXEL = 8.66e4, 0.8  # cm²; Å
# Share of photons that are counted, by wavelength in Å: atmosphere, telescope, fibre, instrument.
EFFICIENCY = {
    3600: 0.07, 3800: 0.14, 4000: 0.20, 4500: 0.28, 5000: 0.31, 5500: 0.32, 6000: 0.33, 6600: 0.35,
    7200: 0.37, 8000: 0.40, 8600: 0.41, 9300: 0.33, 9824: 0.25,
}  # fmt: skip
# Noise at wavelengths in Å relative to that at 6500 Å, as DESI's coadds of faint targets have it.
RELATIVE_NOISE = {
    3600: 12.5, 3650: 10.7, 3800: 5.9, 4000: 3.5, 4300: 2.5, 4700: 1.8, 5200: 1.44, 6000: 1.3,
    6500: 1.0, 7000: 0.83, 7700: 0.8, 8200: 0.69, 9000: 0.69, 9400: 0.85, 9824: 1.0,
}  # fmt: skip
NOISE_SCATTER = 0.15  # in ln, from exposure to exposure
GREY_ERROR, TILT_ERROR = 0.02, 0.02  # of the flux calibration, in level and in slope
SKY_RESIDUAL = 0.03  # of the strength of sky lines
# Telluric bands: Å, Å (σ), depth.
TELLURIC = (
    (6875.0, 14.0, 0.25),
    (7190.0, 45.0, 0.12),
    (7610.0, 22.0, 0.45),
    (8230.0, 60.0, 0.1),
    (9400.0, 130.0, 0.3),
)
# Dichroics between the three arms: Å, Å (σ), depth.
DICHROICS = ((5780.0, 60.0, 0.2), (7580.0, 30.0, 0.1))
# Bright night-sky lines beside the OH forest: Å, strength.
SKY_LINES = ((5578.9, 9.0), (5891.6, 1.5), (5897.6, 1.0), (6302.0, 3.5), (6365.5, 1.2))

Pixels = Float[np.ndarray, "L"]
Flux = Float[Tensor, "B L"]


@dataclass(frozen=True, eq=False)
class Conditions(Table):
    """Of each exposure: noise relative to the typical one, and errors of the reduction.

    Attributes:
        noise: Factor on the standard deviation.
        grey, tilt: Relative error of the flux calibration, and how it changes from the middle
            of the spectrum to its red end.
        residual: Sky left over, relative to the strength of its lines.
    """

    noise: Float[np.ndarray, "B"]
    grey: Float[np.ndarray, "B"]
    tilt: Float[np.ndarray, "B"]
    residual: Float[np.ndarray, "B"]


def draw_conditions(n: int, rng: np.random.Generator, seconds: float = BRIGHT_TIME) -> Conditions:
    """Conditions of `n` exposures of so many effective seconds."""
    longer = np.sqrt(seconds / BRIGHT_TIME)
    return Conditions(
        noise=rng.lognormal(0, NOISE_SCATTER, n) / longer,
        grey=rng.normal(0, GREY_ERROR, n),
        tilt=rng.normal(0, TILT_ERROR, n),
        residual=rng.normal(0, SKY_RESIDUAL, n),
    )


def variance(flux: Flux, conditions: Conditions) -> Flux:
    """Noise variance of each pixel: the sky's, and the source's own photons."""
    own = flux.clamp(min=0) / torch.from_numpy(photons().astype(np.float32))
    return _column(conditions.noise) ** 2 * (torch.from_numpy(sky_variance()) + own)


def calibration(conditions: Conditions) -> Flux:
    """Factor by which the flux calibration errs; the noise knows nothing of it."""
    slope = torch.linspace(-1, 1, DESI_PIXELS)
    return 1 + _column(conditions.grey) + _column(conditions.tilt) * slope


def sky_residual(conditions: Conditions) -> Flux:
    """Sky lines left after subtraction; ivar knows nothing of them."""
    lines = torch.from_numpy(sky_lines().astype(np.float32))
    return _column(conditions.residual * conditions.noise) * lines


def noise(variance: Flux, rng: np.random.Generator) -> Flux:
    """Gaussian noise of the given variance."""
    draw = rng.standard_normal(tuple(variance.shape), dtype=np.float32)
    return torch.from_numpy(draw) * torch.sqrt(variance)


@cache
def sky_variance() -> Float[np.ndarray, "L"]:
    """Of an empty fibre in a typical night of 180 s, (1e-17 erg/s/cm²/Å)²."""
    noise = SKY_NOISE * np.exp(_smooth({x: np.log(y) for x, y in RELATIVE_NOISE.items()}))
    sky = 1 + LINE_STRENGTH * sky_lines()
    return (sky * (noise / transmission()) ** 2).astype(np.float32)


@cache
def photons() -> Pixels:
    """Counted in a pixel in 180 s, per 1e-17 erg/s/cm²/Å."""
    energy = (constants.h * constants.c).to_value("erg AA") / desi_grid()
    counted = _smooth(EFFICIENCY) * transmission()
    return 1e-17 * MIRROR * PIXEL * BRIGHT_TIME * counted / energy


@cache
def transmission() -> Pixels:
    """Of telluric bands and dichroics: 1 beside them."""
    wave = desi_grid()
    air, arms = (
        1 - np.sum([depth * _gaussian(wave, *line) for *line, depth in bands], axis=0)
        for bands in (TELLURIC, DICHROICS)
    )
    return air * arms


@cache
def sky_lines() -> Pixels:
    """Night-sky lines: an OH forest, strewn at random once and for all, and five bright lines."""
    rng = np.random.default_rng(3)
    forest = np.sort(np.concatenate([rng.uniform(6800, 9824, 150), rng.uniform(7200, 9800, 90)]))
    strength = rng.lognormal(0, 1, len(forest)) * np.clip((forest - 6500) / 1800, 0.1, 1.5)
    lines = [*zip(forest, strength, strict=True), *SKY_LINES]
    wave = desi_grid()
    return np.sum([height * _gaussian(wave, center, 0.85) for center, height in lines], axis=0)


def _smooth(values: dict[int, float]) -> Pixels:
    return PchipInterpolator([*values], [*values.values()])(desi_grid())


def _gaussian(wave: Pixels, center: float, sigma: float) -> Pixels:
    return np.exp(-(((wave - center) / sigma) ** 2) / 2)


def _column(values: Float[np.ndarray, "B"]) -> Float[Tensor, "B 1"]:
    return torch.from_numpy(values.astype(np.float32))[:, None]
