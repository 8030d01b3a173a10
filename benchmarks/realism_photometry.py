"""Colours and continua of `realism`: simulated galaxies against real ones."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from sklearn.ensemble import HistGradientBoostingRegressor
from speclite.filters import load_filter

from appulse.metrics import nmad, r2
from appulse.survey.synthetic.brightness import photon_weights
from appulse.survey.synthetic.camera import ZERO_POINT_SCATTER
from appulse.survey.synthetic.population import Population, draw_population
from appulse.survey.synthetic.spectra import starlight
from appulse.survey.synthetic.ssp import WAVELENGTH
from appulse.survey.synthetic.targets import Galaxies
from appulse.units import flux_to_magnitude

SEED = 91  # of no survey that is frozen
COLOURS = ("u - g", "g - r", "r - i", "i - z")
QUANTILES = (16, 50, 84)
MAIN_BINS = (0.03, 0.06, 0.09, 0.12, 0.16, 0.21)
RED_BINS = (0.45, 0.5, 0.55, 0.6, 0.68)
SOFTENING = np.array([1.4, 0.9, 1.2, 1.8, 7.4]) * 1e-10  # of SDSS's asinh magnitudes (Lupton 1999)
# Massive galaxies around BOSS's cuts, so that errors scatter some in and out.
CMASS_LIKE = Galaxies((0.4, 0.75), (10.8, 12.1), lambda g, r, z: (z < 20.2) & (r - z > 0.7))
ATLAS_WINDOWS = (1500, 2000, 2600, 3200, 3700, 4100, 4600, 5100, 6000, 6800, 7300)  # Å; over 5500


def sdss_magnitudes(galaxies: Population) -> np.ndarray:
    """AB magnitudes u, g, r, i, z, shape (B, 5), of starlight; a constant for all is left out."""
    filters = [load_filter(f"sdss2010-{band}") for band in "ugriz"]
    found = np.empty((len(galaxies.redshift), 5))
    for first in range(0, len(found), 500):
        part = galaxies[first : first + 500]
        light = starlight(part, np.full(len(part.redshift), 1.0)).numpy()
        wave = WAVELENGTH[-light.shape[1] :]
        for row, (z, one) in enumerate(zip(part.redshift, light, strict=True)):
            weights = [photon_weights(f, wave * (1 + z)) for f in filters]
            found[first + row] = [-2.5 * np.log10(w @ one) for w in weights]
    return found


def main_colours(folder: Path, galaxies: Population, magnitudes: np.ndarray) -> dict[str, Any]:
    """SDSS's main sample, r < 17.77, against simulated galaxies as bright (in DECam's r)."""
    real = table(folder / "real" / "photoz_sdss_mgs10k.parquet")
    bright = galaxies.flux[:, 1] > 10 ** (0.4 * (22.5 - 17.77))
    return compare_colours(
        (real["zspec"], real["magnitudes"]),
        (galaxies.redshift[bright], magnitudes[bright]),
        MAIN_BINS,
    ) | {"median z": [float(np.median(real["zspec"])), float(np.median(galaxies.redshift[bright]))]}


def red_colours(folder: Path) -> dict[str, Any]:
    """BOSS's CMASS galaxies against simulated ones with its errors, then through its cuts.

    What is near the cuts is scattered over them, which decides colours as much as stars do.
    """
    real = table(folder / "real" / "photoz_boss_dr10.parquet")
    rng = np.random.default_rng(SEED)
    galaxies = draw_population(6000, rng, CMASS_LIKE)
    magnitudes = sdss_magnitudes(galaxies)
    magnitudes += np.median(flux_to_magnitude(galaxies.flux[:, 1]) - magnitudes[:, 2])
    errors = real["errors"][rng.integers(len(real["errors"]), size=len(magnitudes))]
    seen = with_errors(magnitudes, errors, rng)
    kept = {
        "real": cmass(real["magnitudes"]),
        "simulated": cmass(seen) & (seen > 10).all(axis=1) & (seen < 25).all(axis=1),
    }
    return compare_colours(
        (real["zspec"][kept["real"]], real["magnitudes"][kept["real"]]),
        (galaxies.redshift[kept["simulated"]], seen[kept["simulated"]]),
        RED_BINS,
    ) | {"galaxies": {name: int(rows.sum()) for name, rows in kept.items()}}


def cmass(magnitudes: np.ndarray) -> np.ndarray:
    """Cuts of BOSS's CMASS sample (Dawson et al. 2013), of one kind of magnitude for two."""
    _, g, r, i, _ = magnitudes.T
    d_perp = r - i - (g - r) / 8
    bright = (i > 17.5) & (i < 19.9) & (i < 19.86 + 1.6 * (d_perp - 0.8))
    return bright & (d_perp > 0.55) & (r - i < 2)


def with_errors(magnitudes: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Asinh magnitudes of SDSS, whose errors are those of real galaxies, drawn in flux."""
    flux = 10 ** (-0.4 * magnitudes)
    sigma = flux * np.clip(errors, 0, 1) * np.log(10) / 2.5
    noisy = (flux + rng.normal(0, sigma)) / (2 * SOFTENING)
    return -2.5 / np.log(10) * (np.arcsinh(noisy) + np.log(SOFTENING))


def table(path: Path) -> dict[str, np.ndarray]:
    columns = pq.read_table(path)
    magnitudes = np.stack([np.array(columns[f"mag_{band}"], float) for band in "ugriz"], axis=1)
    good = ((magnitudes > 10) & (magnitudes < 25)).all(axis=1)
    found = {"zspec": np.array(columns["zspec"])[good], "magnitudes": magnitudes[good]}
    if "mag_err_u" in columns.column_names:
        errors = [np.array(columns[f"mag_err_{band}"], float) for band in "ugriz"]
        found["errors"] = np.stack(errors, axis=1)[good]
    return found


def compare_colours(real: tuple, simulated: tuple, bins: tuple[float, ...]) -> dict[str, Any]:
    """Quantiles of each colour in bins of redshift, and simulated minus real."""
    quantiles = {}
    for name, (z, magnitudes) in (("real", real), ("simulated", simulated)):
        colours = -np.diff(magnitudes, axis=1)
        inside = [(z > low) & (z < high) for low, high in pairwise(bins)]
        quantiles[name] = {
            c: np.array([np.percentile(colours[rows, k], QUANTILES) for rows in inside])
            for k, c in enumerate(COLOURS)
        }
    difference = {c: quantiles["simulated"][c] - quantiles["real"][c] for c in COLOURS}
    return {"bins": bins} | {
        name: {c: values[c].round(3).tolist() for c in COLOURS}
        for name, values in (*quantiles.items(), ("difference", difference))
    }


def atlas_continua(folder: Path, galaxies: Population) -> dict[str, Any]:
    """Light of real galaxies in windows, over 5500 Å, against the range of simulated ones."""
    light = starlight_to_the_uv(galaxies)
    windows = np.array(ATLAS_WINDOWS)
    simulated = np.log10(np.stack([ratios(WAVELENGTH, one) for one in light]))
    low, middle, high = np.percentile(simulated, (0.5, 50, 99.5), axis=0)
    real = np.array([ratios(*read_atlas(path)) for path in atlas_files(folder)])
    real = np.log10(np.where(real > 0, real, np.nan))
    inside = [np.mean((x > a - 0.02) & (x < b + 0.02)) for x, a, b in
              zip([c[np.isfinite(c)] for c in real.T], low, high, strict=True)]  # fmt: skip
    return {
        "windows": windows.tolist(),
        "simulated, .5, 50, 99.5 %": np.stack([low, middle, high]).round(3).tolist(),
        "real, 5, 50, 95 %": np.nanpercentile(real, (5, 50, 95), axis=0).round(3).tolist(),
        "inside": dict(zip(map(str, ATLAS_WINDOWS), np.round(inside, 3).tolist(), strict=True)),
        "galaxies": len(real),
    }


def starlight_to_the_uv(galaxies: Population) -> np.ndarray:
    """As `starlight`, but on all of its wavelengths."""
    far = replace(galaxies, redshift=np.full(len(galaxies.redshift), 1.0))
    return starlight(far, np.full(len(galaxies.redshift), 150.0)).numpy()


def atlas_files(folder: Path) -> list[Path]:
    return [
        p for p in sorted((folder / "templates" / "atlas").glob("*.fits")) if "kcorr" not in p.name
    ]


def read_atlas(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength in Å, rest frame to some 1000 km/s, and flux per Å."""
    with fits.open(path) as hdus:
        if len(hdus) > 1:
            return hdus[1].data["WAVELENGTH"].astype(float), hdus[1].data["FLUX"].astype(float)
        header, flux = hdus[0].header, np.asarray(hdus[0].data, float).squeeze()
        step = header.get("CDELT1") or header["CD1_1"]
        first = header["CRVAL1"] - step * (header.get("CRPIX1", 1) - 1)
        return first + step * np.arange(len(flux)), flux


def ratios(wave: np.ndarray, flux: np.ndarray) -> list[float]:
    """Median light within 40 Å of each window over that at 5500 Å; NaN where there is none."""

    def level(center: float) -> float:
        near = (np.abs(wave - center) < 40) & (flux != 0)
        return float(np.median(flux[near])) if near.sum() > 5 else np.nan

    return [level(center) / level(5500) for center in ATLAS_WINDOWS]


def redshift_from_magnitudes(
    folder: Path, galaxies: Population, magnitudes: np.ndarray
) -> dict[str, Any]:
    """R² and NMAD of boosting on g, r, z: the main sample, and simulated galaxies as bright."""
    real = table(folder / "real" / "photoz_sdss_mgs10k.parquet")
    r = flux_to_magnitude(galaxies.flux[:, 1])
    rng = np.random.default_rng(SEED)
    noise = ZERO_POINT_SCATTER * rng.standard_normal(magnitudes.shape)
    seen = magnitudes + (r - magnitudes[:, 2])[:, None] + noise
    bright = np.flatnonzero(r < 17.77)
    some = rng.permutation(len(real["zspec"]))[: len(bright)]
    return {
        "real": photometric_redshift(real["zspec"][some], real["magnitudes"][some]),
        "simulated": photometric_redshift(galaxies.redshift[bright], seen[bright]),
        "galaxies": len(bright),
    }


def photometric_redshift(z: np.ndarray, magnitudes: np.ndarray) -> dict[str, float]:
    grz = magnitudes[:, [1, 2, 4]]
    x = np.hstack([grz, np.diff(grz, axis=1)])
    train = slice(0, int(0.7 * len(z)))
    test = slice(train.stop, None)
    boosting = HistGradientBoostingRegressor(
        learning_rate=0.06, max_iter=400, early_stopping=True, random_state=0
    )
    found = boosting.fit(x[train], z[train]).predict(x[test])
    return {
        "R²": round(r2(found, z[test]), 3),
        "NMAD": round(nmad(found, z[test]), 4),
    }
