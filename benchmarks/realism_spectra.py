"""Lines, sky and classifiers of `realism`: simulated spectra against real ones."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from appulse.survey.synthetic import gas, spectrograph
from appulse.survey.synthetic.block import fibre_spectra
from appulse.survey.synthetic.population import Population, draw_population
from appulse.survey.synthetic.simulate import simulate
from appulse.units import desi_grid
from realism_photometry import SEED

CENTERS = np.geomspace(3900, 6800, 24)  # rest frame, of the classifier's bands
MATCHES = 6  # simulated galaxies for each real one
SDSS_SPREAD = 1.0  # Å, σ, by which SDSS's lines are broader than DESI's, in quadrature
LINES = {"H alpha": 6564.6, "N II": 6585.3, "H beta": 4862.7, "O III": 5008.2}


def line_ratios(folder: Path, galaxies: Population) -> dict[str, Any]:
    """N II/Hα and O III/Hβ: simulated, and of real galaxies with four lines above 5 σ."""
    light = gas.draw_line_luminosities(galaxies, np.random.default_rng(SEED))
    names = list(gas.LINES)
    n2, halpha, o3, hbeta = (
        light[:, names.index(name)] for name in ("[N II] 6585", "H alpha", "[O III] 5008", "H beta")
    )
    points = {
        "simulated": np.log10([n2 / halpha, o3 / hbeta]),
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


def sdss_classifier(folder: Path) -> dict[str, Any]:
    """Real SDSS galaxies against simulated ones of the same redshift, colour and noise."""
    spectra, objects = sdss_galaxies(folder)
    galaxies = draw_population(15_000, np.random.default_rng(SEED + 1))
    galaxies = galaxies[np.flatnonzero(galaxies.flux[:, 1] > 10 ** (0.4 * (22.5 - 17.77)))]
    streams = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    clean = fibre_spectra(galaxies, np.full(len(galaxies.redshift), 0.3), *streams).numpy()
    clean = gaussian_filter1d(clean, SDSS_SPREAD / 0.8, axis=1)
    rest_grids = desi_grid() / (1 + galaxies.redshift[:, None])
    ours = np.array([colour(w, one) for w, one in zip(rest_grids, clean, strict=True)])
    rng = np.random.default_rng(SEED)
    real, simulated = [], []
    for wave, flux, ivar, z in spectra:
        rest = wave / (1 + z)
        real.append(features(rest, flux, ivar, rng, exact=True))
        far = ((galaxies.redshift - z) / 0.03) ** 2 + ((ours - colour(rest, flux)) / 0.02) ** 2
        for row in np.argsort(far)[:MATCHES]:
            model = np.interp(rest * (1 + galaxies.redshift[row]), desi_grid(), clean[row])
            scale = np.median(flux[ivar > 0]) / np.median(model[ivar > 0])
            simulated.append(features(rest, scale * model, ivar, rng))
    groups = np.array([*objects, *np.repeat(objects, MATCHES)])
    names = [f"{kind} {c:.0f}" for kind in ("level", "roughness") for c in CENTERS]
    return classify(np.array(real), np.array(simulated), groups, names)


def colour(rest: np.ndarray, flux: np.ndarray) -> float:
    """log of the light at 4550 over that at 6150 Å."""
    blue, red = (np.median(flux[np.abs(rest - center) < 100]) for center in (4550, 6150))
    return float(np.log10(blue / red))


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
    level: list[float] = []
    rough: list[float] = []
    for center in CENTERS:
        near = good & (np.abs(rest - center) < 0.011 * center)
        if near.sum() < 20:
            level.append(np.nan)
            rough.append(np.nan)
            continue
        x = rest[near] - center
        trend = np.polynomial.polynomial.polyfit(x, seen[near], 2)
        left = seen[near] - np.polynomial.polynomial.polyval(x, trend)
        level.append(np.mean(seen[near]))
        rough.append(np.std(left) / abs(np.mean(seen[near])))
    return np.concatenate([np.array(level) / np.nanmean(level), np.log10(rough)])


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
             for a, b in pairwise(edges)]  # fmt: skip
    groups = np.concatenate([np.arange(len(z)), np.repeat(np.arange(len(z)), 4)])
    features_of = partial(observed_features, wave, edges=edges)
    return classify(features_of(real), features_of(np.array(simulated)), groups, names)


def observed_features(wave: np.ndarray, flux: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bands = [(wave > a) & (wave < b) for a, b in pairwise(edges)]
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
