"""Columns of a synthetic survey: the truth, what a catalogue says, and how it was observed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ...units import BANDS, flux_to_magnitude
from . import catalogue
from .camera import Exposure
from .history import SSP_AGE
from .morphology import CLASSES, ELLIPTICAL, Morphology
from .points import Points
from .population import Population
from .ssp import surviving_fraction
from .streams import Stage, Streams

RELEASE = "v2"
POINT = "point source"  # the morphology of quasars and stars
SPECTYPE = {"qso": "QSO", "star": "STAR"}  # names of the pipeline of DESI; the rest are galaxies

Columns = dict[str, np.ndarray]


def of_galaxies(
    galaxies: Population,
    shape: Morphology,
    exposure: Exposure,
    rng: Streams,
) -> Columns:
    """Properties and looks, true and as catalogues have them."""
    survives = np.log10(galaxies.mass_fraction @ surviving_fraction(SSP_AGE))
    return {
        "redshift_true": galaxies.redshift,
        "log_mstar_true": galaxies.log_mstar,
        "age_true": galaxies.age,
        "log_zsol_true": galaxies.log_zsol,
        "log_ssfr_true": galaxies.log_ssfr,
        "morphology_true": np.array(CLASSES)[shape.kind],
        **catalogue.properties(galaxies, rng(Stage.CATALOGUE)),
        **catalogue.votes(shape, exposure.fwhm[:, 1], rng(Stage.VOTES)),
        "log_mstar_surviving_true": galaxies.log_mstar + survives,
        "log_ssfr_100myr_true": galaxies.log_ssfr_recent,
        "a_v_true": galaxies.a_v,
        "r_eff": shape.r_eff,
        "bulge_fraction": shape.bulge_fraction,
        "inclination": np.where(shape.kind == ELLIPTICAL, np.nan, galaxies.inclination),
    }


def of_points(points: Points) -> Columns:
    """Redshifts, and the morphology of what has none."""
    return {
        "redshift_true": points.redshift,
        "redshift_catalogue": points.redshift,
        "morphology_true": np.full(len(points.redshift), POINT),
    }


def of_any(
    tracer: str,
    flux: Float[np.ndarray, "B 3"],
    in_fibre: Float[np.ndarray, "B"],
    ebv: Float[np.ndarray, "B"],
    exposure: Exposure,
) -> Columns:
    """Class, brightness and circumstances."""
    n = len(ebv)
    columns = {
        "tracer": np.full(n, tracer.upper()),
        "spectype": np.full(n, SPECTYPE.get(tracer, "GALAXY")),
        "fibre_fraction": in_fibre,
        "ebv": ebv,
        "survey": np.full(n, "synthetic"),
        "release": np.full(n, RELEASE),
    }
    magnitudes = flux_to_magnitude(flux)
    for b, band in enumerate(BANDS):
        columns[f"mag_{band}"] = magnitudes[:, b]
        columns[f"psf_{band}"] = exposure.fwhm[:, b]
        columns[f"depth_{band}"] = exposure.depth[:, b]
    return columns


def joined(parts: Sequence[Columns], order: Int[np.ndarray, "B"]) -> Columns:
    """Columns of several classes of targets in one order; NaN or "" where a class has none."""
    names = dict.fromkeys(name for part in parts for name in part)
    dtype = {name: part[name].dtype for part in parts for name in part}
    return {
        name: np.concatenate([_column(part, name, dtype[name]) for part in parts])[order]
        for name in names
    }


def _column(part: Columns, name: str, dtype: np.dtype) -> np.ndarray:
    if name in part:
        return part[name]
    return np.full(len(part["tracer"]), "" if dtype.kind == "U" else np.nan)
