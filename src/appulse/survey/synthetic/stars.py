"""Spectra of stars from a closed form: Planck's law with what atoms and molecules take away.

No library of observed or computed stars is needed. Redistributions and strengths are ad hoc,
set so that the populations of `ssp` come near E-MILES (Vazdekis et al. 2016): D4000 to .2, Mg b
to .6 Å at solar metallicity. What they miss in broad colour, `continuum` makes up.
"""

import numpy as np
from jaxtyping import Float

from .absorption import (
    FEATURES,
    TITANIUM_OXIDE,
    balmer_wavelengths,
    band_profile,
    feature_depth,
    weak_line_forest,
)

SECOND_RADIATION = 1.438777e8  # hc/k in Å K
BALMER_LIMIT = 3646.0  # Å
CONFLUENCE = 3757.0  # Å, where half of the jump is reached

Temperatures = Float[np.ndarray, "S"]
Wavelengths = Float[np.ndarray, "L"]
StarSpectra = Float[np.ndarray, "S L"]


def hydrogen_star(temperature: Temperatures, wavelength: Wavelengths) -> StarSpectra:
    """Planck spectra with Balmer jump and lines: stars without metals, 1/Å per unit bolometric."""
    log_t = np.log(temperature)
    flux = planck(temperature, wavelength) * np.exp(-_balmer_jump(log_t, wavelength))
    strength = _bump(log_t, 9300.0, 0.33) + 0.1 * (temperature > 9300) * _bump(log_t, 15000.0, 0.5)
    strength = np.clip(strength, 0, 1)
    for level, center in balmer_wavelengths().items():
        high = max(0, level - 9)  # lines near the limit blend into the jump
        width, depth = 9.0 * np.exp(-high / 4.1), 0.72 * np.exp(-high / 3.4)
        flux *= 1 - (depth * strength)[:, None] * _balmer_profile((wavelength - center) / width)
    return flux


def add_metals(
    flux: StarSpectra, temperature: Temperatures, metallicity: float, wavelength: Wavelengths
) -> StarSpectra:
    """Takes blanketing, lines and TiO bands of metallicity [Z/H] out of `hydrogen_star`."""
    cool = _sigmoid((6300 - temperature) / 650)
    blanket = cool * 10 ** (0.28 * metallicity) * (1 + 0.35 * (temperature < 4600))
    forest = 0.28 * cool * 10 ** (0.4 * metallicity)
    depth = np.outer(blanket, _blanketing(wavelength))
    depth += np.outer(forest, weak_line_forest(wavelength))
    flux = flux * np.exp(-depth)
    _absorb_features(flux, np.log(temperature), metallicity, wavelength)
    _absorb_titanium_oxide(flux, temperature, metallicity, wavelength)
    return flux


def planck(temperature: Temperatures, wavelength: Wavelengths) -> StarSpectra:
    """Planck's law per Å, normalised to a bolometric flux of 1."""
    ratio = SECOND_RADIATION / temperature[:, None]
    return 15 / np.pi**4 * ratio**4 / wavelength**5 / np.expm1(ratio / wavelength)


def _balmer_jump(log_t: Temperatures, wavelength: Wavelengths) -> StarSpectra:
    """Optical depth of bound-free absorption, which lines smear well past the Balmer limit.

    Edge and depth are tuned, with the lines, to populations of 56 to 450 Myr between 3500 and
    4150 Å (Bruzual & Charlot 2003, MILES version of 2016).
    """
    depth = 1.07 * _bump(log_t, 9500.0, 0.28) + 0.105 * _bump(log_t, 6500.0, 0.3)
    depth += 0.12 * (log_t > np.log(12000)) * 12000 / np.exp(log_t)
    edge = _sigmoid((CONFLUENCE - wavelength) / 29) * np.minimum(
        (wavelength / BALMER_LIMIT) ** 2, 1
    )
    return np.outer(depth, edge)


def _balmer_profile(x: Wavelengths) -> Wavelengths:
    """Stark wings and a narrow core, in units of the line's width."""
    return 0.55 / (1 + (0.9 * x) ** 2) ** 1.25 + 0.45 * np.exp(-8 * x**2)


def _blanketing(wavelength: Wavelengths) -> Wavelengths:
    """Smooth optical depth of crowded metal lines; its step makes the 4000 Å break."""
    return (
        0.42 * _sigmoid((3990 - wavelength) / 28)
        + 0.55 * _sigmoid((3250 - wavelength) / 180)
        + 0.22 * _sigmoid((4350 - wavelength) / 120)
    )


def _absorb_features(
    flux: StarSpectra, log_t: Temperatures, metallicity: float, wavelength: Wavelengths
) -> None:
    for feature in FEATURES.values():
        reach = feature.wavelength + 6 * feature.sigma * np.array([-1, 1])
        near = slice(*np.searchsorted(wavelength, reach))
        profile = _gaussian((wavelength[near] - feature.wavelength) / feature.sigma)
        depth = feature_depth(feature, log_t, metallicity)
        flux[:, near] *= 1 - np.outer(depth, profile)


def _absorb_titanium_oxide(
    flux: StarSpectra, temperature: Temperatures, metallicity: float, wavelength: Wavelengths
) -> None:
    strength = _sigmoid((3750 - temperature) / 160) * 10 ** (0.3 * metallicity)
    cool = np.flatnonzero(strength > 0.01)
    for band in TITANIUM_OXIDE:
        depth = np.minimum(band.depth * strength[cool], 0.9)
        flux[cool] *= 1 - np.outer(depth, band_profile(band, wavelength))


def _bump(log_t: Temperatures, center: float, spread: float) -> Temperatures:
    """Gaussian in ln(T) around a temperature in K."""
    return _gaussian((log_t - np.log(center)) / spread)


def _gaussian(x: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return np.exp(-(x**2) / 2)


def _sigmoid(x: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return 0.5 * (1 + np.tanh(x / 2))
