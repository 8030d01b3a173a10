"""How real the synthetic survey looks, against shared/data: writes results/realism.json and PNGs.

    OMP_NUM_THREADS=1 python benchmarks/realism.py ../shared/data [--only-sn-sizes]

With `--only-sn-sizes` signal-to-noise and sizes alone are measured, and the rest of the file stays.
Only curves and statistics of the real files are shown, never their pixels. Nothing is fitted here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from appulse.provenance import provenance
from appulse.survey.synthetic.morphology import draw_morphology
from appulse.survey.synthetic.population import Population, draw_population
from appulse.survey.synthetic.simulate import simulate
from appulse.units import desi_grid
from realism_figures import save_figures, save_sn_sizes
from realism_photometry import (
    COLOURS,
    SEED,
    atlas_continua,
    main_colours,
    red_colours,
    redshift_from_magnitudes,
    sdss_magnitudes,
)
from realism_sizes import sizes
from realism_sn import signal_to_noise
from realism_spectra import desi_classifier, line_ratios, sdss_classifier, sky_residuals
from record import RESULTS, write_result


def main(folder: Path) -> None:
    galaxies = draw_population(30_000, np.random.default_rng(SEED))
    magnitudes = sdss_magnitudes(galaxies)
    results = {
        "colours": {
            "main sample": main_colours(folder, galaxies, magnitudes),
            "red galaxies": red_colours(folder),
        },
        "redshift from magnitudes": redshift_from_magnitudes(folder, galaxies, magnitudes),
        "continua": atlas_continua(folder, galaxies[:2000]),
        "line ratios": line_ratios(folder, galaxies),
        "sky": sky_residuals(folder),
        "survey": survey_statistics(galaxies),
        "classifiers": {
            "SDSS galaxies": sdss_classifier(folder),
            "DESI SV3": desi_classifier(folder),
        },
        **sn_sizes(folder),
    }
    save_figures(RESULTS, results)
    save_sn_sizes(RESULTS, results)
    drop_points(results)
    short = summary(results) | sn_sizes_summary(results)
    print(short)
    print(write_result("realism", {"summary": short, **results}))


def update_sn_sizes(folder: Path) -> None:
    """Measures signal-to-noise and sizes; all else in the file stays, its circumstances too."""
    path = RESULTS / "realism.json"
    record = json.loads(path.read_text())
    new = sn_sizes(folder)
    save_sn_sizes(RESULTS, new)
    drop_points(new)
    record["results"].update(new)
    record["results"]["summary"].update(sn_sizes_summary(new))
    record["signal-to-noise and sizes"] = provenance()
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(sn_sizes_summary(new))


def sn_sizes(folder: Path) -> dict[str, Any]:
    return {"signal-to-noise": signal_to_noise(folder), "sizes": sizes(folder)}


def drop_points(results: dict[str, Any]) -> None:
    """Takes out the thousands of points that only a figure shows."""
    del results["sizes"]["Shen et al. (2003)"]["points"]
    for one in results["sizes"]["Galaxy Zoo 2"]["axis ratio"].values():
        del one["values"]


def sn_sizes_summary(results: dict[str, Any]) -> dict[str, Any]:
    """One number for each comparison of signal-to-noise and sizes; simulated over real, dex."""
    sdss, found = results["signal-to-noise"]["SDSS galaxies"], results["sizes"]
    return {
        "S/N of SDSS galaxies, dex": sdss["offset, dex"],
        "R50 of Legacy Surveys galaxies, dex": found["Legacy Surveys"]["R50"]["offset, dex"],
        "median axis ratio, real and simulated": {
            name: [one["real, 16, 50, 84 %"][1], one["simulated, 16, 50, 84 %"][1]]
            for name, one in found["Galaxy Zoo 2"]["axis ratio"].items()
        },
        "R50 over Shen et al. (2003), dex": {
            name: one["offset, dex"]["value"]
            for name, one in found["Shen et al. (2003)"]["bins"].items()
        },
    }


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """One number for each comparison."""
    worst = {
        name: {c: round(float(np.abs(t["difference"][c]).max()), 3) for c in COLOURS}
        for name, t in results["colours"].items()
    }
    return {
        "largest difference of colour quantiles, mag": worst,
        "redshift from magnitudes": results["redshift from magnitudes"],
        "atlas galaxies inside the simulated range": results["continua"]["inside"],
        "sky, simulated and real": {k: results["sky"][k] for k in ("simulated", "real")},
        "AUROC": {k: v["AUROC"] for k, v in results["classifiers"].items()},
    }


def survey_statistics(galaxies: Population) -> dict[str, Any]:
    """Signal-to-noise, sizes, redshifts of the simulated survey: percentiles and histograms.

    No sample of shared/data was selected alike; `sn_sizes` compares at a given magnitude.
    """
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
    return {name: distribution(values) for name, values in quantities.items()}


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Percentiles 5, 25, 50, 75, 95, and counts between edges."""
    counts, edges = np.histogram(values, 40, np.percentile(values, (0.5, 99.5)))
    percentiles = np.percentile(values, (5, 25, 50, 75, 95)).round(3).tolist()
    return {"percentiles": percentiles, "counts": counts.tolist(), "edges": edges.round(4).tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/data"))
    parser.add_argument("--only-sn-sizes", action="store_true")
    asked = parser.parse_args()
    (update_sn_sizes if asked.only_sn_sizes else main)(asked.folder)
