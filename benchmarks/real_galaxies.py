"""What the demo's model, trained on simulations alone, does on real files.

    python benchmarks/real_galaxies.py demo/align ../shared/data/real

Rank of the true spectrum for the images of 14 real pairs, and redshifts of real spectra by the
shift dictionary, per class, with the failures by name. Nothing here is learned from.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

import appulse
from appulse.metrics import partner_ranks
from appulse.survey.crossmatch import pair
from record import write_result

HIGHEST = 0.48  # ln((1 + z1) / (1 + z2)) that the dictionary spans


def main(run: str, folder: Path) -> None:
    model = appulse.load(run)
    result = {
        "model": model.hash(),
        "pairs": pairs(model, folder / "pairs_legacysurvey_sdss"),
        "spectra_desi.h5": redshifts(model, folder / "spectra_desi", "h5", "zwarn"),
        "spectra_sdss.npz": redshifts(model, folder / "spectra_sdss", "npz", "zwarning"),
    }
    for name, part in result.items():
        print(name, part)
    print(write_result("real_galaxies", result))


def pairs(model: Any, folder: Path) -> dict[str, Any]:
    """Ranks both ways, and redshift errors, of images and spectra of the same galaxies."""
    images = appulse.read_images(str(folder / "*.jpeg"), pixel_scale=0.1)
    spectra = appulse.read_spectra(str(folder / "spec-*.fits"))
    galaxies = pair(images, spectra, by="id").survey()
    truth = {row["bestobjid"]: float(row["z"]) for row in table(folder / "pairs.csv")}
    z = np.array([truth[id] for id in galaxies.ids])
    cosine = model.embed_images(galaxies.images) @ model.embed_spectra(galaxies.spectra).T
    error = (model.redshift(galaxies.spectra) - z) / (1 + z)
    return {
        "galaxies": len(z),
        "rank of spectrum": partner_ranks(cosine).tolist(),
        "rank of image": partner_ranks(cosine.T).tolist(),
        "median rank by chance": (len(z) + 1) / 2,
        "redshift error": error.round(5).tolist(),
        "within .003": float(np.mean(np.abs(error) < 0.003)),
    }


def redshifts(model: Any, path: Path, suffix: str, warning: str) -> dict[str, Any]:
    """Share of good redshifts by class, of rows without a redshift warning."""
    rejects = appulse.Rejects()
    spectra = appulse.read_spectra(path.with_suffix(f".{suffix}"), rejects=rejects)
    dropped = {reject.row for reject in rejects}
    rows = [r for i, r in enumerate(table(Path(f"{path}_meta.csv"))) if i not in dropped]
    z, found = np.array([float(row["z"] or "nan") for row in rows]), model.redshift(spectra)
    good = np.abs(found - z) / (1 + z) < 0.003
    kinds = np.array([row["spec_class"] for row in rows])
    clean = np.array([row[warning] in ("0", "0.0") for row in rows])
    inside = (z > 0.005) & (np.log1p(z) < HIGHEST)
    report: dict[str, Any] = {"read": len(rows), "rejected": len(dropped)}
    for kind in np.unique(kinds[clean]):
        some = clean & (kinds == kind)
        report[str(kind)] = {"n": int(some.sum()), "within .003": int(good[some].sum())}
    galaxies = clean & (kinds == "GALAXY") & inside
    report["galaxies in the dictionary's range"] = {
        "n": int(galaxies.sum()),
        "within .003": int(good[galaxies].sum()),
        "failures": [
            {"id": str(spectra.ids[i]), "z": round(z[i], 4), "found": round(float(found[i]), 4)}
            for i in np.flatnonzero(galaxies & ~good)
        ],
    }
    return report


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
