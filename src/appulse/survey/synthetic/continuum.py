"""Smooth corrections of stellar populations: what the closed form misses in broad colour.

`stars` and `ssp` get lines and breaks nearly right, but not giants' evolution, mass loss or hot
stars' winds. Here the light per mass formed is brought to that of Bruzual & Charlot (2003; MILES
version of 2016, Kroupa) in windows 6 % wide; between windows, ages and metallicities the
correction is interpolated, so it holds no spectral feature. From 3900 to 4900 Å stars older than
2 Gyr are made 5 to 10 % brighter than the models, as real galaxies ask: with them, g - r comes out
.1 mag too red (Maraston et al. 2009; benchmarks/realism.py).
"""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

# fmt: off
CENTER = np.array([
    1300, 1500, 1800, 2150, 2600, 3100, 3600, 3900,
    4050, 4300, 4700, 5500, 6500, 7700, 9000, 10700.0,
])  # Å
AGE = np.array([0.003, 0.01, 0.025, 0.056, 0.1, 0.2, 0.355, 0.56, 0.89, 1.4, 2.24, 4.5, 11.2])
# Gyr
METALLICITY = np.array([-0.71, 0.0, 0.4])  # [Z/H], dex; nearest beyond
# Dex by metallicity, age and window; beyond 1.2 dex (old stars' UV) it is cut.
TUNED = 0.01 * np.array([
    [  # [Z/H] = -0.71
        [-22, -26, -28, -30, -32, -33, -35, -31, -33, -37, -43, -54, -65, -80, -86, -95],
        [48, 35, 25, 18, 12, 10, 10, 20, 20, 18, 17, 15, 13, 14, 16, 19],
        [59, 40, 25, 13, 5, 2, 2, 11, 11, 9, 9, 7, 8, 11, 15, 21],
        [64, 43, 24, 10, 0, -1, 1, 10, 10, 9, 8, 7, 8, 11, 14, 19],
        [70, 48, 26, 11, 0, 2, 5, 12, 12, 10, 9, 7, 7, 9, 12, 15],
        [73, 52, 25, 7, -3, 7, 17, 15, 15, 14, 13, 11, 11, 14, 18, 20],
        [63, 46, 19, -1, -12, 2, 13, 10, 11, 9, 7, 4, 3, 5, 8, 10],
        [24, 23, 13, -6, -16, 0, 12, 7, 8, 6, 4, 0, -1, 0, 3, 4],
        [18, 33, 23, 1, -11, 6, 14, 3, 5, 2, 1, -3, -4, -3, -1, 0],
        [-28, -83, -27, -18, -24, 1, 10, -2, 1, -2, -1, -3, -2, 0, 2, 5],
        [2, -62, 6, 2, -14, 1, 5, -5, -2, -4, -4, -8, -8, -7, -6, -4],
        [101, 22, 0, 15, 1, 12, 11, 3, 6, 2, 1, -6, -8, -7, -7, -5],
        [120, 120, 89, 58, 37, 36, 27, 19, 22, 16, 14, 5, 1, 1, 1, 0],
    ],
    [  # [Z/H] = 0.0
        [-4, -9, -7, -6, -7, -8, -11, -11, -15, -20, -30, -45, -62, -77, -91, -103],
        [47, 30, 23, 17, 11, 8, 7, 13, 12, 10, 10, 10, 14, 20, 27, 35],
        [55, 34, 22, 12, 4, 2, 1, 8, 7, 5, 5, 4, 7, 11, 19, 27],
        [61, 42, 23, 10, 0, 0, 2, 9, 8, 7, 6, 4, 5, 11, 15, 21],
        [67, 49, 27, 11, 0, 3, 6, 9, 8, 6, 5, 3, 3, 8, 12, 16],
        [66, 50, 25, 6, -7, 2, 8, 11, 11, 8, 6, 3, 2, 4, 8, 12],
        [50, 39, 19, -1, -14, -2, 7, 6, 7, 5, 3, -1, -2, 0, 3, 7],
        [-48, -62, -4, -14, -26, -5, 4, -1, 2, 0, -1, -4, -6, -3, -1, 3],
        [-103, -120, -16, -19, -31, -7, 1, -10, -6, -8, -7, -10, -10, -8, -6, -3],
        [-39, -99, -62, -32, -37, -10, -3, -18, -13, -15, -13, -14, -13, -9, -6, -2],
        [28, -41, -71, -34, -33, -10, -7, -20, -14, -16, -14, -17, -16, -12, -8, -2],
        [120, 48, -34, -20, -10, 1, -3, -12, -7, -11, -10, -16, -17, -13, -9, -3],
        [120, 120, 116, 38, 25, 19, 10, 1, 7, 1, 1, -8, -10, -7, -4, 2],
    ],
    [  # [Z/H] = 0.4
        [-4, -10, -5, -2, -1, 0, -1, 4, 0, -5, -14, -30, -46, -62, -75, -88],
        [39, 20, 17, 12, 7, 5, 3, 9, 8, 5, 0, -7, -13, -3, 9, 28],
        [46, 26, 16, 7, -1, -2, -2, 7, 6, 3, 0, -5, -8, -3, 8, 21],
        [50, 35, 17, 4, -5, -2, 1, 8, 7, 5, 2, -1, -2, 3, 9, 18],
        [52, 38, 18, 2, -9, -2, 3, 8, 7, 5, 2, -1, -2, 1, 7, 14],
        [28, 19, 8, -10, -23, -8, 1, 5, 6, 4, 3, 0, 0, 4, 9, 16],
        [-42, -32, -3, -19, -31, -11, 0, -4, 0, -1, -2, -5, -6, -3, 1, 8],
        [-101, -88, -27, -33, -42, -14, -3, -13, -8, -8, -7, -9, -9, -5, -2, 7],
        [-90, -120, -120, -79, -62, -24, -10, -27, -19, -19, -15, -15, -13, -9, -6, 4],
        [-26, -90, -120, -108, -65, -29, -15, -34, -25, -25, -20, -19, -17, -12, -8, 2],
        [47, -24, -93, -97, -54, -26, -18, -35, -25, -27, -22, -24, -22, -17, -12, -2],
        [120, 79, -10, -66, -31, -16, -16, -26, -18, -22, -19, -25, -24, -19, -14, -3],
        [120, 120, 120, 68, 16, 3, -2, -9, -5, -10, -8, -16, -18, -13, -10, 0],
    ],
])
# fmt: on


def correction(
    age: Float[np.ndarray, "A"], metallicity: float, wavelength: Float[np.ndarray, "L"]
) -> Float[np.ndarray, "A L"]:
    """Factors on the light of populations of `age` Gyr and one [Z/H], at rest `wavelength` in Å."""
    by_age = np.stack([_between(METALLICITY, table, metallicity) for table in TUNED.swapaxes(0, 1)])
    dex = _between(np.log(AGE), by_age, np.log(age))
    inside = np.clip(np.log(wavelength), *np.log(CENTER[[0, -1]]))
    return 10 ** PchipInterpolator(np.log(CENTER), dex, axis=1)(inside)


def _between(
    knots: Float[np.ndarray, "K"], values: Float[np.ndarray, "K W"], x: float | np.ndarray
) -> Float[np.ndarray, "..."]:
    """Linear interpolation of rows; those beyond the ends are repeated."""
    cell = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
    part = np.clip((x - knots[cell]) / (knots[cell + 1] - knots[cell]), 0, 1)
    part = np.expand_dims(part, -1)
    return (1 - part) * values[cell] + part * values[cell + 1]
