"""How real the synthetic survey looks, against shared/data: writes results/realism.json and PNGs.

    OMP_NUM_THREADS=1 python benchmarks/realism.py ../shared/data

Only curves and statistics of the real files are shown, never their pixels. Nothing is fitted here.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from speclite.filters import load_filter

from appulse.survey.synthetic import gas, spectrograph
from appulse.survey.synthetic.block import fibre_spectra
from appulse.survey.synthetic.brightness import _photon_weights
from appulse.survey.synthetic.morphology import draw_morphology
from appulse.survey.synthetic.population import Population, draw_population
from appulse.survey.synthetic.simulate import simulate
from appulse.survey.synthetic.spectra import starlight
from appulse.survey.synthetic.ssp import WAVELENGTH
from appulse.survey.synthetic.targets import LRG
from appulse.units import desi_grid
from realism_figures import save_figures
from record import RESULTS, write_result

SEED = 91  # of no survey that is frozen
COLOURS = ("u - g", "g - r", "r - i", "i - z")
QUANTILES = (16, 50, 84)
MAIN_BINS = (0.03, 0.06, 0.09, 0.12, 0.16, 0.21)
RED_BINS = (0.45, 0.5, 0.55, 0.6, 0.68)
ATLAS_WINDOWS = (1500, 2000, 2600, 3200, 3700, 4100, 4600, 5100, 6000, 6800, 7300)  # Å; over 5500
CENTERS = np.geomspace(3900, 6800, 24)  # rest frame, of the classifier's bands
LINES = {"H alpha": 6564.6, "N II": 6585.3, "H beta": 4862.7, "O III": 5008.2}


def main(folder: Path) -> None:
    galaxies = draw_population(12_000, np.random.default_rng(SEED))
    magnitudes = sdss_magnitudes(galaxies)
    results = {
        "colours": {
            "main sample": main_colours(folder, galaxies, magnitudes),
            "red galaxies": red_colours(folder),
        },
        "continua": atlas_continua(folder, galaxies[:2000]),
        "line ratios": line_ratios(folder, galaxies),
        "sky": sky_residuals(folder),
        "survey": survey_statistics(galaxies),
        "classifiers": {
            "SDSS galaxies": sdss_classifier(folder),
            "DESI SV3": desi_classifier(folder),
        },
    }
    save_figures(RESULTS, results)
    print(summary(results))
    print(write_result("realism", {"summary": summary(results), **results}))


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """One number for each comparison."""
    worst = {
        name: {c: round(max(abs(d) for row in t["difference"][c] for d in row), 3) for c in COLOURS}
        for name, t in results["colours"].items()
    }
    return {
        "largest difference of colour quantiles, mag": worst,
        "atlas galaxies inside the simulated range": results["continua"]["inside"],
        "sky, simulated and real": {k: results["sky"][k] for k in ("simulated", "real")},
        "AUROC": {k: v["AUROC"] for k, v in results["classifiers"].items()},
    }


def sdss_magnitudes(galaxies: Population) -> np.ndarray:
    """AB magnitudes u, g, r, i, z, shape (B, 5), of starlight; a constant for all is left out."""
    filters = [load_filter(f"sdss2010-{band}") for band in "ugriz"]
    found = np.empty((len(galaxies.redshift), 5))
    for first in range(0, len(found), 500):
        part = galaxies[first : first + 500]
        light = starlight(part, np.full(len(part.redshift), 1.0)).numpy()
        wave = WAVELENGTH[-light.shape[1] :]
        for row, (z, one) in enumerate(zip(part.redshift, light, strict=True)):
            weights = [_photon_weights(f, wave * (1 + z)) for f in filters]
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
    """BOSS galaxies against simulated luminous red galaxies; their cuts differ."""
    real = table(folder / "real" / "photoz_boss_dr10.parquet")
    galaxies = draw_population(1500, np.random.default_rng(SEED), LRG)
    return compare_colours(
        (real["zspec"], real["magnitudes"]),
        (galaxies.redshift, sdss_magnitudes(galaxies)),
        RED_BINS,
    )


def table(path: Path) -> dict[str, np.ndarray]:
    columns = pq.read_table(path)
    magnitudes = np.stack([np.array(columns[f"mag_{band}"], float) for band in "ugriz"], axis=1)
    good = ((magnitudes > 10) & (magnitudes < 25)).all(axis=1)
    return {"zspec": np.array(columns["zspec"])[good], "magnitudes": magnitudes[good]}


def compare_colours(real: tuple, simulated: tuple, bins: tuple[float, ...]) -> dict[str, Any]:
    """Quantiles of each colour in bins of redshift, and simulated minus real."""
    quantiles = {}
    for name, (z, magnitudes) in (("real", real), ("simulated", simulated)):
        colours = -np.diff(magnitudes, axis=1)
        inside = [(z > low) & (z < high) for low, high in itertools.pairwise(bins)]
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
    from dataclasses import replace

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


def line_ratios(folder: Path, galaxies: Population) -> dict[str, Any]:
    """N II/Hα and O III/Hβ: simulated, and of real galaxies with four lines above 5 σ."""
    light = gas.draw_line_luminosities(galaxies, np.random.default_rng(SEED))
    names = list(gas.LINES)
    flux = {k: light[:, names.index(v)] for k, v in
            {"H alpha": "H alpha", "N II": "[N II] 6585", "H beta": "H beta", "O III": "[O III] 5008"}.items()}  # fmt: skip
    points = {
        "simulated": np.log10([flux["N II"] / flux["H alpha"], flux["O III"] / flux["H beta"]]),
        "real": real_line_ratios(folder),
    }
    star_forming = galaxies.log_ssfr_recent > -11
    below = below_kauffmann(*points["simulated"][:, star_forming])
    real_x, real_y = points["real"]
    near = [nearest(x, y, points["simulated"]) for x, y in zip(real_x, real_y, strict=True)]
    return {
        "simulated": points["simulated"][:, :1500].round(3).tolist(),
        "real": points["real"].round(3).tolist(),
        "star-forming below Kauffmann et al. (2003)": round(float(below.mean()), 3),
        "real within .15 dex of a simulated one": round(float(np.mean(np.array(near) < 0.15)), 3),
    }


def below_kauffmann(n2: np.ndarray, o3: np.ndarray) -> np.ndarray:
    return (n2 < 0.05) & (o3 < 0.61 / (np.minimum(n2, 0.049) - 0.05) + 1.3)


def nearest(x: float, y: float, points: np.ndarray) -> float:
    return float(np.hypot(points[0] - x, points[1] - y).min())


def real_line_ratios(folder: Path) -> np.ndarray:
    """Lines of SDSS galaxies over a local continuum; Balmer absorption is not corrected."""
    found = []
    for wave, flux, ivar, z in sdss_galaxies(folder)[0]:
        strength = {k: line_strength(wave / (1 + z), flux, ivar, c) for k, c in LINES.items()}
        if all(s > 5 * e for s, e in strength.values()):
            n2 = strength["N II"][0] / strength["H alpha"][0]
            found.append([n2, strength["O III"][0] / strength["H beta"][0]])
    return np.log10(np.array(found).T)


def line_strength(
    rest: np.ndarray, flux: np.ndarray, ivar: np.ndarray, center: float
) -> tuple[float, float]:
    on = np.abs(rest - center) < 8
    beside = (np.abs(rest - center) > 30) & (np.abs(rest - center) < 60)
    step = np.gradient(rest[on]) if on.sum() > 4 else np.zeros(1)
    if on.sum() <= 4 or (ivar[on] == 0).any():
        return 0.0, 1.0
    level = np.median(flux[beside])
    return float(((flux[on] - level) * step).sum()), float(np.sqrt((step**2 / ivar[on]).sum()))


def sdss_galaxies(folder: Path) -> tuple[list[tuple], np.ndarray]:
    """Wavelength, flux, ivar and z of galaxies below z = .25 without warning, and their objects."""
    data = np.load(folder / "real" / "spectra_sdss.npz")
    rows = np.flatnonzero(
        (data["spec_class"] == "GALAXY")
        & (data["zwarning"] == 0)
        & (data["z"] > 0.01)
        & (data["z"] < 0.25)
    )
    spectra = []
    for row in rows:
        n = int(data["npix"][row])
        wave = 10 ** (data["loglam0"][row] + 1e-4 * np.arange(n))
        spectra.append((wave, data["flux"][row, :n], data["ivar"][row, :n], data["z"][row]))
    return spectra, data["object_key"][rows]


def sky_residuals(folder: Path) -> dict[str, Any]:
    """χ of sky fibres: scatter where the sky is dark and where it is full of lines."""
    data = np.load(folder / "real" / "sky_sdss.npz")
    wave = [10 ** (a + 1e-4 * np.arange(data["flux"].shape[1])) for a in data["loglam0"]]
    chi = np.where(data["ivar"] > 0, data["flux"] * np.sqrt(data["ivar"]), np.nan)
    rng = np.random.default_rng(SEED)
    night = spectrograph.draw_conditions(100, rng)
    import torch

    variance = spectrograph.variance(torch.zeros(100, len(desi_grid())), night)
    seen = spectrograph.noise(variance, rng) + spectrograph.sky_residual(night)
    simulated = (seen / torch.sqrt(variance)).numpy()
    return {
        "real": scatter([np.asarray(w) for w in wave], chi),
        "simulated": scatter([desi_grid()] * 100, simulated),
    }


def scatter(wave: list[np.ndarray], chi: np.ndarray) -> dict[str, float]:
    """Of χ from 4500 to 5500 Å and from 7700 to 8900 Å: robust σ, and share beyond 5."""
    found = {}
    for name, low, high in (("blue", 4500, 5500), ("red", 7700, 8900)):
        parts = [c[(w > low) & (w < high)] for w, c in zip(wave, chi, strict=True)]
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        spread = np.diff(np.percentile(values, (16, 84)))[0] / 2
        found[f"{name} σ"] = round(float(spread), 3)
        found[f"{name} beyond 5"] = round(float((np.abs(values) > 5).mean()), 5)
    return found


def survey_statistics(galaxies: Population) -> dict[str, Any]:
    """Percentiles of signal-to-noise, sizes, brightness of the simulated survey."""
    survey = simulate(1024, seed=SEED, size=64)
    window = (desi_grid() > 6000) & (desi_grid() < 7200)
    ratio = np.median(survey.spectra.flux[:, window] * np.sqrt(survey.spectra.ivar[:, window]), 1)
    shape = draw_morphology(galaxies, np.random.default_rng(SEED))
    quantities = {
        "signal-to-noise per pixel, 6000-7200 Å": ratio,
        "r_eff, arcsec": shape.r_eff,
        "redshift": galaxies.redshift,
        "fibre fraction": survey.columns["fibre_fraction"],
    }
    return {
        k: np.percentile(v, (5, 25, 50, 75, 95)).round(3).tolist() for k, v in quantities.items()
    }


def sdss_classifier(folder: Path) -> dict[str, Any]:
    """Real SDSS galaxies against simulated ones of the same redshifts and signal-to-noise."""
    spectra, objects = sdss_galaxies(folder)
    rng = np.random.default_rng(SEED)
    real = [features(w / (1 + z), f, iv, rng, exact=True) for w, f, iv, z in spectra]
    galaxies = draw_population(12_000, np.random.default_rng(SEED + 1))
    bright = np.flatnonzero(galaxies.flux[:, 1] > 10 ** (0.4 * (22.5 - 17.77)))
    near = [np.argsort(np.abs(galaxies.redshift[bright] - z))[:8] for *_, z in spectra]
    picked = galaxies[bright[np.concatenate(near)]]
    streams = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    clean = fibre_spectra(picked, np.full(len(picked.redshift), 0.3), *streams).numpy()
    simulated, groups = [], []
    for row, one in enumerate(clean):
        wave, flux, ivar, _ = spectra[row // 8]
        model = np.interp(wave, desi_grid(), one)
        good = ivar > 0
        scale = np.median(flux[good]) / np.median(model[good])
        rest = wave / (1 + picked.redshift[row])
        simulated.append(features(rest, scale * model, ivar, rng))
        groups.append(objects[row // 8])
    return classify(
        np.array(real), np.array(simulated), np.array([*objects, *groups]), sdss_names()
    )


def features(
    rest: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    rng: np.random.Generator,
    exact: bool = False,
) -> np.ndarray:
    """Levels of bands over their mean, and scatter in each after its trend: 24 + 24 numbers."""
    good = ivar > 0
    noise = np.zeros(len(flux)) if exact else rng.standard_normal(len(flux))
    seen = flux + np.where(good, noise / np.sqrt(np.where(good, ivar, 1)), 0)
    level, rough = [], []
    for center in CENTERS:
        near = good & (np.abs(rest - center) < 0.011 * center)
        if near.sum() < 20:
            level.append(np.nan), rough.append(np.nan)
            continue
        x = rest[near] - center
        trend = np.polynomial.polynomial.polyfit(x, seen[near], 2)
        left = seen[near] - np.polynomial.polynomial.polyval(x, trend)
        level.append(np.mean(seen[near]))
        rough.append(np.std(left) / abs(np.mean(seen[near])))
    level = np.array(level) / np.nanmean(level)
    return np.concatenate([level, np.log10(rough)])


def sdss_names() -> list[str]:
    return [f"{kind} {c:.0f}" for kind in ("level", "roughness") for c in CENTERS]


def desi_classifier(folder: Path) -> dict[str, Any]:
    """Normalised DESI spectra against simulated mixed ones, nearest in redshift."""
    data = np.load(folder / "real" / "spectra_desi_sv3_normalised.npz")
    wave, z = data["wave"], data["z"]
    survey = simulate(2048, seed=SEED, size=64, population="mixed")
    true = survey.columns["redshift_true"]
    picked = np.concatenate([np.argsort(np.abs(true - one))[:4] for one in z])
    simulated = []
    for row in picked:
        flux = np.interp(wave, desi_grid(), survey.spectra.flux[row])
        spread = np.diff(np.percentile(flux, (16, 84)))[0] / 2
        simulated.append(np.arcsinh((flux - np.median(flux)) / spread))
    valid = data["valid"]
    real = np.where(valid, data["flux_arcsinh_norm"], np.nan)
    edges = np.geomspace(3650, 9750, 28)
    names = [f"{kind} {(a + b) / 2:.0f}" for kind in ("level", "roughness")
             for a, b in itertools.pairwise(edges)]  # fmt: skip
    groups = np.concatenate([np.arange(len(z)), np.repeat(np.arange(len(z)), 4)])
    x = [observed_features(wave, np.array(part), edges) for part in (real, simulated)]
    return classify(*x, groups, names)


def observed_features(wave: np.ndarray, flux: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bands = [(wave > a) & (wave < b) for a, b in itertools.pairwise(edges)]
    level = np.stack([np.nanmedian(flux[:, b], axis=1) for b in bands], axis=1)
    rough = np.stack([np.nanstd(np.diff(flux[:, b], axis=1), axis=1) for b in bands], axis=1)
    return np.concatenate([level, np.log10(rough + 1e-3)], axis=1)


def classify(
    real: np.ndarray, simulated: np.ndarray, groups: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """AUROC of a forest that tells real from simulated, folds apart by object; what it uses."""
    x = np.nan_to_num(np.concatenate([real, simulated]), nan=0.0)
    y = np.repeat([1, 0], [len(real), len(simulated)])
    result: dict[str, Any] = {"real": len(real), "simulated": len(simulated)}
    kinds = {"AUROC": slice(None), "AUROC, levels": slice(0, len(names) // 2),
             "AUROC, roughness": slice(len(names) // 2, None)}  # fmt: skip
    for name, columns in kinds.items():
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=0)
        score = cross_val_predict(
            forest, x[:, columns], y, groups=groups, cv=GroupKFold(5), method="predict_proba"
        )
        result[name] = round(float(roc_auc_score(y, score[:, 1])), 3)
    single = [roc_auc_score(y, column) for column in x.T]
    order = np.argsort(-np.abs(np.array(single) - 0.5))[:8]
    result["gives it away"] = {names[k]: round(float(single[k]), 3) for k in order}
    result["single"] = np.round(single, 3).tolist()
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
