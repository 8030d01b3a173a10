"""Distances and ages in the Planck 2018 cosmology (Planck Collaboration VI, 2020, table 2).

Interpolated from `astropy.cosmology.Planck18`, whose integrals are slow one by one; between
z = .001 and 4 the tables agree with it to 1e-4.
"""

from functools import cache

import numpy as np
from astropy.cosmology import Planck18
from jaxtyping import Float

CM_PER_MPC = 3.0856775814913674e24
TABLE_REDSHIFT = np.geomspace(0.001, 4.0, 1400)

Redshift = Float[np.ndarray, "..."]


@cache
def _tables() -> dict[str, Float[np.ndarray, "1400"]]:
    z = TABLE_REDSHIFT
    return {
        "distance": Planck18.luminosity_distance(z).to_value("Mpc"),
        "age": Planck18.age(z).to_value("Gyr"),
        "volume": Planck18.differential_comoving_volume(z).to_value("Mpc3 / sr"),
        "scale": Planck18.kpc_proper_per_arcmin(z).to_value("kpc / arcsec"),
    }


def luminosity_distance(z: Redshift) -> Float[np.ndarray, "..."]:
    """Luminosity distance in cm."""
    return CM_PER_MPC * np.interp(z, TABLE_REDSHIFT, _tables()["distance"])


def age_of_universe(z: Redshift) -> Float[np.ndarray, "..."]:
    """Time since the big bang in Gyr."""
    return np.interp(z, TABLE_REDSHIFT, _tables()["age"])


def volume_density(z: Redshift) -> Float[np.ndarray, "..."]:
    """Comoving volume per redshift and solid angle, Mpc³/sr."""
    return np.interp(z, TABLE_REDSHIFT, _tables()["volume"])


def kpc_per_arcsec(z: Redshift) -> Float[np.ndarray, "..."]:
    """Proper transverse length of one arcsec, kpc."""
    return np.interp(z, TABLE_REDSHIFT, _tables()["scale"])
