"""Strengths of the 4000 Å break and of emission lines.

Shapes: B spectra.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..survey.spectra import Spectra

BREAK = ((3850.0, 3950.0), (4000.0, 4100.0))  # Å at rest: the narrow one of Balogh et al. (1999)


class Line(NamedTuple):
    """Windows of a line and of the continuum to both sides, in Å at rest, in vacuum."""

    line: tuple[float, float]
    blue: tuple[float, float]
    red: tuple[float, float]


LINES: Mapping[str, Line] = {
    "[OII]": Line((3717.0, 3740.0), (3690.0, 3713.0), (3744.0, 3770.0)),
    "Hβ": Line((4848.0, 4877.0), (4820.0, 4844.0), (4880.0, 4905.0)),
    "[OIII]": Line((4996.0, 5020.0), (4972.0, 4992.0), (5025.0, 5050.0)),
    "Hα + [NII]": Line((6536.0, 6598.0), (6490.0, 6530.0), (6602.0, 6645.0)),
}


def d4000(spectra: Spectra, redshift: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
    """Mean f_ν above the break over that below; NaN where a window is not seen."""
    rest = spectra.wavelength / (1 + redshift[:, None])
    blue, red = (_mean(spectra.flux * rest**2, spectra.mask, rest, window) for window in BREAK)
    return np.where(blue > 0, red / np.where(blue > 0, blue, 1), np.nan)


def equivalent_width(
    spectra: Spectra, redshift: Float[np.ndarray, "B"], line: Line
) -> Float[np.ndarray, "B"]:
    """Å at rest, positive in emission, over a straight continuum; NaN where it is not seen."""
    rest = spectra.wavelength / (1 + redshift[:, None])
    centres = [sum(window) / 2 for window in line]
    flux, blue, red = (_mean(spectra.flux, spectra.mask, rest, window) for window in line)
    share = (centres[0] - centres[1]) / (centres[2] - centres[1])
    continuum = blue + share * (red - blue)
    width = line.line[1] - line.line[0]
    known = continuum > 0
    return np.where(known, width * (flux / np.where(known, continuum, 1) - 1), np.nan)


def _mean(
    flux: Float[np.ndarray, "B L"], mask: np.ndarray, rest: np.ndarray, window: tuple[float, float]
) -> Float[np.ndarray, "B"]:
    """Mean flux in a window; NaN unless most of it is seen."""
    inside = (rest >= window[0]) & (rest < window[1])
    good = inside & ~mask
    count = good.sum(1)
    step = np.median(np.diff(rest, axis=1), axis=1)
    seen = count * step > 0.8 * (window[1] - window[0])
    return np.where(seen, (flux * good).sum(1) / np.maximum(count, 1), np.nan)
