"""Absorption features of stars: where they lie, how wide, and in which stars they are deep.

Vacuum wavelengths. Depths, widths and temperature ranges are ad hoc: set by eye so that line
indices of old and young populations come near E-MILES (Vazdekis et al. 2016), not computed.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Feature(NamedTuple):
    """A Gaussian line or blend.

    `depth` is reached in stars of `temperature`, falls as a Gaussian of width `spread` in
    ln(temperature), and grows by `slope` dex per dex of metallicity.
    """

    wavelength: float  # Å
    sigma: float  # Å
    depth: float
    temperature: float  # K
    spread: float
    slope: float


class Band(NamedTuple):
    """A molecular band: a sharp head at `wavelength` that fades to the red over `width` Å."""

    wavelength: float
    width: float
    depth: float


FEATURES = {
    "Mg II 2800": Feature(2799, 12, 0.385, 6500, 0.45, 0.2),
    "Mg I 2852": Feature(2853, 8, 0.33, 5500, 0.4, 0.3),
    "Fe 3720": Feature(3720, 15, 0.2475, 4900, 0.35, 0.4),
    "Fe 3740": Feature(3750, 14, 0.22, 4900, 0.35, 0.4),
    "Fe 3820": Feature(3822, 14, 0.1925, 4900, 0.35, 0.4),
    "Mg 3838": Feature(3838, 6, 0.22, 4600, 0.3, 0.4),
    "CN 3860": Feature(3860, 22, 0.22, 4500, 0.25, 0.4),
    "Ca K": Feature(3934.8, 7, 0.68, 4900, 0.32, 0.25),
    "Ca H": Feature(3969.6, 7, 0.6375, 4900, 0.32, 0.25),
    "Mn 4030": Feature(4034, 4, 0.1375, 4500, 0.3, 0.4),
    "Fe 4045": Feature(4047, 4, 0.165, 4700, 0.3, 0.4),
    "Fe 4064": Feature(4065, 4, 0.1375, 4700, 0.3, 0.4),
    "Sr 4077": Feature(4079, 3, 0.11, 4800, 0.3, 0.3),
    "Fe 4110": Feature(4112, 22, 0.12, 4600, 0.3, 0.4),
    "Fe 4132": Feature(4133, 5, 0.11, 4700, 0.3, 0.4),
    "CN 4160": Feature(4160, 25, 0.121, 4300, 0.22, 0.5),
    "Ca 4227": Feature(4228, 4, 0.275, 3900, 0.25, 0.3),
    "Fe 4260": Feature(4265, 16, 0.13, 4600, 0.3, 0.4),
    "G band": Feature(4305, 13, 0.2475, 4900, 0.22, 0.25),
    "Fe 4383": Feature(4385, 8, 0.1925, 4500, 0.28, 0.45),
    "Fe 4415": Feature(4420, 14, 0.1, 4600, 0.3, 0.4),
    "Fe 4530": Feature(4532, 16, 0.06, 4500, 0.28, 0.45),
    "Fe 4668": Feature(4668, 18, 0.11, 4400, 0.25, 0.6),
    "Fe 4880": Feature(4880, 22, 0.1, 4600, 0.3, 0.4),
    "Fe 4930": Feature(4935, 20, 0.05, 4600, 0.3, 0.4),
    "Fe 5015": Feature(5015, 18, 0.12, 4500, 0.3, 0.45),
    "MgH": Feature(5115, 40, 0.12, 4300, 0.25, 0.35),
    "MgH head": Feature(5210, 40, 0.08, 4400, 0.28, 0.35),
    "Mg b1": Feature(5168.7, 3.2, 0.2475, 4300, 0.27, 0.4),
    "Mg b2": Feature(5174.1, 3.2, 0.2475, 4300, 0.27, 0.4),
    "Mg b3": Feature(5185, 3.2, 0.231, 4300, 0.27, 0.4),
    "Fe 5270": Feature(5270, 6, 0.154, 4400, 0.3, 0.42),
    "Fe 5335": Feature(5332, 6, 0.1375, 4400, 0.3, 0.45),
    "Fe 5406": Feature(5405, 4, 0.11, 4200, 0.3, 0.45),
    "Fe 5709": Feature(5710, 6, 0.066, 4300, 0.3, 0.45),
    "Na D2": Feature(5891.6, 2.5, 0.275, 4000, 0.28, 0.45),
    "Na D1": Feature(5897.6, 2.5, 0.2475, 4000, 0.28, 0.45),
    "Ca 6162": Feature(6163, 6, 0.0825, 4100, 0.3, 0.4),
    "Fe 6495": Feature(6497, 8, 0.066, 4300, 0.3, 0.4),
    "Na I 8190": Feature(8192, 8, 0.0825, 3500, 0.2, 0.4),
    "Ca T1": Feature(8500.4, 4, 0.1925, 4600, 0.4, 0.2),
    "Ca T2": Feature(8544.4, 5, 0.275, 4600, 0.4, 0.2),
    "Ca T3": Feature(8664.5, 5, 0.2475, 4600, 0.4, 0.2),
    "Mg 8807": Feature(8809, 5, 0.066, 4300, 0.3, 0.4),
}

TITANIUM_OXIDE = (
    Band(4761, 120, 0.25),
    Band(4954, 150, 0.35),
    Band(5167, 160, 0.4),
    Band(5448, 120, 0.25),
    Band(5847, 120, 0.25),
    Band(6158, 150, 0.45),
    Band(6651, 150, 0.35),
    Band(7053, 220, 0.55),
    Band(7589, 180, 0.4),
    Band(8432, 170, 0.4),
    Band(8859, 160, 0.3),
)

RYDBERG_VACUUM = 911.7634  # Å, limit of the Lyman series of hydrogen


def balmer_wavelengths(last: int = 21) -> dict[int, float]:
    """Vacuum Å of the lines from level n to 2, for n from 3 to `last` (Rydberg formula)."""
    return {n: RYDBERG_VACUUM / (1 / 4 - 1 / n**2) for n in range(3, last + 1)}


def feature_depth(
    feature: Feature, log_temperature: Float[np.ndarray, "S"], metallicity: float
) -> Float[np.ndarray, "S"]:
    """Central depth, at most .93, in stars of given ln(T/K) and [Z/H]."""
    offset = (log_temperature - np.log(feature.temperature)) / feature.spread
    depth = feature.depth * np.exp(-(offset**2) / 2) * 10 ** (feature.slope * metallicity)
    return np.minimum(depth, 0.93)


def band_profile(band: Band, wavelength: Float[np.ndarray, "L"]) -> Float[np.ndarray, "L"]:
    """Depth of a band relative to its head; the head itself is 8 Å wide."""
    distance = wavelength - band.wavelength
    return np.exp(-np.where(distance > 0, distance / band.width, -distance / 8))


def weak_line_forest(wavelength: Float[np.ndarray, "L"]) -> Float[np.ndarray, "L"]:
    """Optical depth of 1400 weak metal lines, dense in the blue.

    Placed once at random and the same in all stars: it stands for the many lines nobody lists,
    and gives spectra the fine structure by which redshift is read. `wavelength` is even in log.
    """
    rng = np.random.default_rng(7)
    log_wavelength = np.log(wavelength)
    step = log_wavelength[1] - log_wavelength[0]
    center = rng.uniform(np.log(2000.0), np.log(9000.0), 1400)
    strength = rng.gamma(0.6, 0.35, 1400) * np.exp(-(np.exp(center) - 3600) / 2200)
    forest = np.zeros_like(wavelength)
    for where, tau in zip(center, strength, strict=True):
        middle = round((where - log_wavelength[0]) / step)
        pixels = np.arange(max(0, middle - 16), min(len(forest), middle + 17))
        forest[pixels] += tau * np.exp(-(((pixels - middle) / 4.0) ** 2) / 2)
    return forest
