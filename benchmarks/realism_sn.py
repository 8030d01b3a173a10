"""Signal-to-noise of `realism`: simulated spectra against real ones of the same fibre magnitude.

SDSS observes with another telescope, so the simulator's noise is carried over to it by counting
photons with published numbers. Nothing is fitted to the spectra that it is compared with.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import ks_2samp
from speclite.filters import load_filter

from appulse.metrics import bootstrap
from appulse.survey.synthetic import spectrograph
from appulse.survey.synthetic.block import fibre_spectra
from appulse.survey.synthetic.brightness import photon_weights
from appulse.survey.synthetic.population import draw_population
from appulse.survey.synthetic.simulate import simulate
from appulse.survey.synthetic.targets import DARK_TIME
from appulse.units import desi_grid
from realism_photometry import SEED

WINDOW = (6000.0, 7200.0)  # Å, where both spectrographs have neither dichroic nor bright sky
BANDS = ("g", "r", "i")
MAGNITUDE_BINS = (15.5, 17.0, 17.6, 18.2, 19.0)  # of r in the spectrum
LAST_SDSS_PLATE = 3000  # BOSS's spectrographs and fibres, from plate 3510 on, are others
COPIES = 20  # simulated spectra for each real one
# Collecting area in m², exposure in s, throughput near 6600 Å with the atmosphere, pixel in Å,
# fibre diameter in arcsec. SDSS: Gunn et al. (2006), York et al. (2000), Smee et al. (2013).
# DESI: DESI Collaboration (2022); its seconds are effective ones, of a bright exposure.
SDSS = {"area": 3.58, "seconds": 2700.0, "throughput": 0.20, "pixel": 1.52, "fibre": 3.0}
DESI = {"area": 8.66, "seconds": 180.0, "throughput": 0.35, "pixel": 0.8, "fibre": 1.5}
PHOTONS = float(np.prod([SDSS[k] / DESI[k] for k in ("area", "seconds", "throughput", "pixel")]))
SKY = (SDSS["fibre"] / DESI["fibre"]) ** 2  # light of the sky in a fibre
# dex in S/N, of throughputs, exposures of 2,700 to 3,600 s, fibre losses, and DESI's real seconds,
# which are more than the effective ones where the sky is bright.
SYSTEMATIC = 0.15

Ratios = Float[np.ndarray, "B"]


def signal_to_noise(folder: Path) -> dict[str, Any]:
    """Of SDSS's galaxies, and of the few DESI spectra with errors."""
    return {
        "SDSS galaxies": sdss(folder / "real"),
        "DESI": desi(folder / "real"),
        "photons of 1e-17 erg/s/cm²/Å in a DESI pixel": photons(),
    }


def photons() -> dict[str, float]:
    """What the simulator's noise of a source implies in 180 s, and what telescope and time give."""
    night = spectrograph.Conditions(*np.array([[1.0], [0.0], [0.0], [0.0]]))
    one = torch.ones(1, len(desi_grid()))
    added = spectrograph.variance(one, night) - spectrograph.variance(0 * one, night)
    near = (desi_grid() > WINDOW[0]) & (desi_grid() < WINDOW[1])
    energy = 6.626e-27 * 2.998e18 * 2 / sum(WINDOW)  # erg
    counted = 1e-17 * np.prod([DESI[k] for k in ("seconds", "throughput", "pixel")])
    return {
        "simulated": round(float(np.median(1 / added.numpy()[0, near])), 1),
        "counted": round(float(counted * DESI["area"] * 1e4) / energy, 1),
    }


def sdss(folder: Path) -> dict[str, Any]:
    """Real galaxies, one spectrum each, against simulated ones scaled to their magnitudes."""
    real = real_galaxies(folder)
    r, ratio = real["r"], real["ratio"]
    simulated = simulated_ratios(r)
    offset = np.log10(simulated) - np.log10(ratio)[:, None]
    return {
        "real": len(r),
        "simulated": simulated.size,
        "r": r.round(3).tolist(),
        "g, r, i, 16, 50, 84 %": {
            b: np.percentile(real[b], (16, 50, 84)).round(2).tolist() for b in BANDS
        },
        "S/N, real": ratio.round(2).tolist(),
        "S/N, simulated, 16, 50, 84 %": np.percentile(simulated, (16, 50, 84), axis=1)
        .round(2)
        .tolist(),
        "pipeline's sn_median over ours": round(float(np.median(real["pipeline"] / ratio)), 3),
        "offset, dex": estimate(np.median, np.median(offset, axis=1)),
        "offset by r, dex": offsets_by_magnitude(r, np.median(offset, axis=1)),
        "systematic, dex": SYSTEMATIC,
        "slope, dex per mag": {"real": slopes(r, ratio), "simulated": slopes(r, simulated[:, 0])},
        "scatter about it, dex": {
            "real": scatter(r, ratio),
            "simulated": scatter(np.repeat(r, COPIES), simulated.ravel()),
        },
        "KS": ks(np.log10(ratio), np.log10(simulated)),
        "KS without the offset": ks(np.log10(ratio), np.log10(simulated) - np.median(offset)),
    }


def ks(real: np.ndarray, simulated: np.ndarray) -> dict[str, float]:
    """Two-sample Kolmogorov-Smirnov test."""
    test = ks_2samp(real, simulated.ravel())
    return {"statistic": round(float(test.statistic), 3), "p": float(f"{test.pvalue:.2g}")}


def real_galaxies(folder: Path) -> dict[str, np.ndarray]:
    """Magnitudes in g, r, i through the fibre, our and the pipeline's S/N of SDSS's galaxies."""
    with np.load(folder / "spectra_sdss.npz") as file:
        data = dict(file)
    rows = np.flatnonzero(
        (data["spec_class"] == "GALAXY")
        & (data["zwarning"] == 0)
        & (data["z"] < 0.25)
        & (data["plate"] < LAST_SDSS_PLATE)
    )
    rows = rows[np.unique(data["object_key"][rows], return_index=True)[1]]
    found: dict[str, list[float]] = {name: [] for name in (*BANDS, "ratio", "pipeline")}
    for row in rows:
        n = int(data["npix"][row])
        wave = 10 ** (data["loglam0"][row] + 1e-4 * np.arange(n))
        flux, ivar = data["flux"][row, :n], data["ivar"][row, :n]
        for band in BANDS:
            found[band].append(magnitude(wave, flux, band))
        found["ratio"].append(median_ratio(wave, flux, ivar))
        found["pipeline"].append(data["sn_median"][row])
    return {name: np.array(values) for name, values in found.items()}


def magnitude(wave: np.ndarray, flux: np.ndarray, band: str) -> float:
    """AB magnitude of a spectrum in 1e-17 erg/s/cm²/Å through a filter of SDSS."""
    weights = photon_weights(load_filter(f"sdss2010-{band}"), wave)
    return float(-2.5 * np.log10(weights @ np.nan_to_num(flux) * 1e-17))


def median_ratio(wave: np.ndarray, flux: np.ndarray, ivar: np.ndarray) -> float:
    """Median S/N per pixel in the window, of pixels that have an error."""
    near = (wave > WINDOW[0]) & (wave < WINDOW[1]) & (ivar > 0)
    return float(np.median(flux[near] * np.sqrt(ivar[near])))


def simulated_ratios(r: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B C"]:
    """S/N of simulated galaxies as SDSS would see them, several for each r magnitude."""
    galaxies = draw_population(8000, np.random.default_rng(SEED + 2))
    galaxies = galaxies[np.flatnonzero(galaxies.flux[:, 1] > 10 ** (0.4 * (22.5 - 17.77)))]
    rng = np.random.default_rng(SEED + 2)
    galaxies = galaxies[rng.permutation(len(galaxies.redshift))[: 10 * COPIES]]
    streams = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    clean = fibre_spectra(galaxies, np.ones(len(galaxies.redshift)), *streams).numpy()
    own = np.array([magnitude(desi_grid(), one, "r") for one in clean])
    pick = rng.integers(len(clean), size=(len(r), COPIES))
    found = [
        observed_ratios(clean[rows] * 10 ** (0.4 * (own[rows] - m))[:, None], rng)
        for m, rows in zip(r, pick, strict=True)
    ]
    return np.array(found)


def observed_ratios(flux: Float[np.ndarray, "B L"], rng: np.random.Generator) -> Ratios:
    """S/N of spectra with the simulator's noise, carried over to SDSS's telescope and fibres.

    The variance of a pixel is (sky + source) / photons per flux: the sky grows with the fibre's
    area, the photons with area, time, throughput and pixel.
    """
    night = spectrograph.draw_conditions(len(flux), rng)
    source = torch.from_numpy(flux.astype(np.float32))
    empty = spectrograph.variance(torch.zeros_like(source), night)
    variance = (SKY * empty + spectrograph.variance(source, night) - empty) / PHOTONS
    seen = (source + spectrograph.noise(variance, rng)).numpy()
    return np.array([median_ratio(desi_grid(), *pair)
                     for pair in zip(seen, (1 / variance).numpy(), strict=True)])  # fmt: skip


def offsets_by_magnitude(r: np.ndarray, offset: Ratios) -> list[dict[str, Any]]:
    """Median offset in bins of r, with its interval."""
    found = []
    for low, high in pairwise(MAGNITUDE_BINS):
        inside = (r >= low) & (r < high)
        if inside.sum() >= 3:
            found.append({"r": [low, high], "real": int(inside.sum()),
                          **estimate(np.median, offset[inside])})  # fmt: skip
    return found


def slopes(r: np.ndarray, ratio: Ratios) -> dict[str, float]:
    """Of log S/N with magnitude: -.2 where the source's photons make the noise, -.4 the sky's."""
    return estimate(lambda x, y: float(np.polyfit(x, np.log10(y), 1)[0]), r, ratio)


def scatter(r: np.ndarray, ratio: Ratios) -> float:
    """Half of the central 68 % of log S/N about a straight line in magnitude, dex."""
    left = np.log10(ratio) - np.polyval(np.polyfit(r, np.log10(ratio), 1), r)
    return round(float(np.diff(np.percentile(left, (16, 84)))[0] / 2), 3)


def estimate(statistic: Any, *arrays: np.ndarray) -> dict[str, float]:
    return {k: round(v, 3) for k, v in bootstrap(statistic, *arrays)._asdict().items()}


def desi(folder: Path) -> dict[str, Any]:
    """Noise per pixel of DESI's coadds, whose exposures are unknown, and of the dark programme.

    No test: all that follows is the effective time at which the simulator has the same noise.
    """
    with h5py.File(folder / "spectra_desi.h5") as file:
        coadds = [group for group in file.values() if "ivar" in group]
        errors = [window_noise(one["wave"][:], one["ivar"][:]) for one in coadds]
        real = np.array([error for error in errors if np.isfinite(error)])
    mixed = simulate(256, SEED, 64, population="mixed").spectra
    simulated = np.array([window_noise(desi_grid(), ivar) for ivar in mixed.ivar])
    return {
        "real": len(real),
        "σ per pixel, real, 16, 50, 84 %": np.percentile(real, (16, 50, 84)).round(3).tolist(),
        "σ per pixel, simulated": np.percentile(simulated, (16, 50, 84)).round(3).tolist(),
        "seconds for the real noise": round(
            DARK_TIME * float(np.median(simulated) / np.median(real)) ** 2
        ),
    }


def window_noise(wave: np.ndarray, ivar: np.ndarray) -> float:
    """Median error per pixel in the window, 1e-17 erg/s/cm²/Å."""
    near = (wave > WINDOW[0]) & (wave < WINDOW[1]) & (ivar > 0)
    return float(np.median(ivar[near] ** -0.5)) if near.any() else float("nan")
