"""Wavelengths in air, and the ones in vacuum that they stand for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

_ROUNDS = 4  # of a fixed point whose error falls by 1e-5 each time


def is_air(header: Mapping[str, Any]) -> bool:
    """Whether a FITS or ECSV header says that wavelengths are in air.

    `AIRORVAC` or `VACUUM` may say so in words, `VACUUM` as a boolean, and `CTYPEn` by `AWAV`
    (Greisen et al. 2006). A header that says nothing means vacuum.
    """
    words = {str(key).upper(): str(value).strip().lower() for key, value in header.items()}
    if words.get("AIRORVAC", "").startswith("air"):
        return True
    if words.get("VACUUM", "") in ("air", "f", "false", "0", "no"):
        return True
    return any(key.startswith("CTYPE") and word.startswith("awav") for key, word in words.items())


def to_vacuum(air: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Vacuum wavelengths in Å of wavelengths in standard air, for 2000 Å and above.

    Refractive index of Morton (2000, ApJS 130, 403, Eq. 8), which the IAU adopted.
    """
    vacuum = np.asarray(air, np.float64)
    for _ in range(_ROUNDS):
        vacuum = air * _refractive_index(vacuum)
    return vacuum


def _refractive_index(vacuum: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    square = (1e4 / vacuum) ** 2  # of the wave number, 1/µm²
    return 1 + 8.34254e-5 + 2.406147e-2 / (130 - square) + 1.5998e-4 / (38.9 - square)
