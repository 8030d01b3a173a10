"""What is learned on simulations alone, on real files: redshifts, classes, odd ones, partners.

    python benchmarks/real_galaxies.py demo ../shared/data [TASK ...]

`demo` is the folder of `make demo`. With tasks' names only those are done again. Nothing is learned
from real objects but where it says so, and then the object that is judged is left out. Choices
(polynomials, number of templates, what oddness is measured by) were made on these same files.
Intervals are bootstraps over objects.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import appulse
from appulse.evaluate.baselines import TemplateMatch
from appulse.metrics import (
    assignment_chance,
    bootstrap,
    difference,
    fraction_within,
    nmad,
    outlier_fraction,
    partner_ranks,
)
from appulse.search.embeddings import Embeddings
from appulse.spectrum.eigenspectra import Eigenspectra, Scan
from appulse.survey.crossmatch import pair
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.tasks.probes import KNNProbe
from real_classes import anomalies, classes
from real_data import Labelled, desi, learned, normalised, published, scans, sdss, table
from record import RESULTS, write_result

EDGES = (-1.0, 0.1, 0.62, 1.1, 2.0)  # of redshift; the shift dictionary ends at .62
SURE = 40.0  # Δχ² between the two best redshifts that DESI asks of bright galaxies (Hahn+ 2023)
NEAR = 0.003  # in Δz / (1 + z)
SCORES: dict[str, Callable[..., float]] = {
    "NMAD": nmad,
    "within .003": partial(fraction_within, limit=0.003),
    "within .01": partial(fraction_within, limit=0.01),
    "within .05": partial(fraction_within, limit=0.05),
    "beyond .15": partial(outlier_fraction, limit=0.15),
}


def main(demo: Path, data: Path, *only: str) -> None:
    torch.set_num_threads(1)
    real = data / "real"
    model, ours, theirs = appulse.load(demo / "align"), learned(), published(data / "templates")
    parts = [sdss(real), desi(real)]
    tasks: dict[str, Callable[[], Any]] = {
        "pairs": lambda: pairs(model, real / "pairs_legacysurvey_sdss"),
        "SDSS galaxies": lambda: galaxies(model, demo, ours, theirs, parts[0]),
        "SDSS quasars": lambda: quasars(model, ours, theirs, parts[0]),
        "DESI objects": lambda: one_by_one(model, ours, parts[1]),
        "DESI SV3": lambda: survey_validation(model, ours, theirs, real),
        "galaxy or quasar": lambda: classes(model, ours, theirs, parts),
        "odd objects": lambda: anomalies(model, demo, ours, parts, real),
    }
    result = earlier(model.hash()) if only else {"model": model.hash()}
    for name in only or tasks:
        result[name] = tasks[name]()
        print(name, result[name], flush=True)
        write_result("real_galaxies", result)


def earlier(model: str) -> dict[str, Any]:
    """Results that are there.

    Raises:
        ValueError: If they are another model's.
    """
    result: dict[str, Any] = json.loads((RESULTS / "real_galaxies.json").read_text())["results"]
    if result["model"] != model:
        raise ValueError(f"results are of model {result['model']}, not {model}; do all tasks")
    return result


def pairs(model: Any, folder: Path) -> dict[str, Any]:
    """Ranks of partners both ways, and the chance of such ranks if they meant nothing."""
    images = appulse.read_images(str(folder / "*.jpeg"), pixel_scale=0.1)
    spectra = appulse.read_spectra(str(folder / "spec-*.fits"))
    found = pair(images, spectra, by="id").survey()
    truth = {row["bestobjid"]: float(row["z"]) for row in table(folder / "pairs.csv")}
    z = np.array([truth[id] for id in found.ids])
    cosine = model.embed_images(found.images) @ model.embed_spectra(found.spectra).T
    report: dict[str, Any] = {"galaxies": len(z), "rank by chance": (len(z) + 1) / 2}
    for name, similarity in (("spectrum of image", cosine), ("image of spectrum", cosine.T)):
        costs = (-similarity).argsort(1).argsort(1)
        report[name] = {
            "ranks": partner_ranks(similarity).tolist(),
            "median rank": float(np.median(partner_ranks(similarity))),
            "exact chance of so small a sum": assignment_chance(costs),
        }
    both = (-cosine).argsort(1).argsort(1) + (-cosine.T).argsort(1).argsort(1).T
    report["exact chance of so small a sum both ways"] = assignment_chance(both)
    report["redshifts by the dictionary"] = scored(model.redshift(found.spectra), z)
    return report


def galaxies(
    model: Any,
    demo: Path,
    ours: dict[str, Eigenspectra],
    theirs: dict[str, Eigenspectra],
    part: Labelled,
) -> dict[str, Any]:
    """Redshifts of SDSS galaxies without warning, an object counting as its worst spectrum."""
    known = part.take(part.clean & (part.kind == "GALAXY"))
    scan = scans({"GALAXY": ours["GALAXY"]}, known.spectra)["GALAXY"]
    proposed = model.spectrum.dictionary.proposals(known.spectra)
    store = SurveyStore.open(demo / "survey.lance")
    rows = store.rows("encoder-train")[:1000]
    seen = store.take(rows, ["spectra", "redshift_true"])
    stacked = TemplateMatch.fit(seen["spectra"], seen["redshift_true"])
    found = {
        "embedding, neighbours among simulations": by_neighbours(model, demo, known.spectra),
        "shift dictionary": proposed,
        "shift dictionary's proposals, refined by templates": refined(scan, proposed)[:, None],
        "templates learned on simulations": scan.proposals()[0],
        "templates stacked from simulations": stacked.predict(known.spectra)[:, None],
        "SDSS's templates": theirs["SDSS"].scan(known.spectra, -0.002, 0.9).proposals()[0],
        "redrock's templates": theirs["GALAXY"].scan(known.spectra, -0.002, 1.8).proposals()[0],
    }
    doubtful = part.take(~part.clean & (part.kind == "GALAXY"))
    told = scans({"GALAXY": ours["GALAXY"]}, doubtful.spectra)["GALAXY"].proposals(2)[0]
    return {
        "objects": len(np.unique(known.object)),
        "spectra": len(known.z),
        "methods": {name: by_object(z, known) for name, z in found.items()},
        "with redshift warnings": [
            {"id": str(i), "z": round(z, 4), "templates": t.round(4).tolist()}
            for i, z, t in zip(doubtful.spectra.ids, doubtful.z, told, strict=True)
        ],
    }


def quasars(
    model: Any, ours: dict[str, Eigenspectra], theirs: dict[str, Eigenspectra], part: Labelled
) -> dict[str, Any]:
    """Redshifts of SDSS's quasars without warning, the first spectrum of each."""
    known = part.first("QSO")
    report: dict[str, Any] = {"objects": len(known.z)}
    for name, templates in (("learned on simulations", ours), ("SDSS's", theirs)):
        found = scans({"QSO": templates["QSO"]}, known.spectra)["QSO"].proposals()[0]
        right = np.abs(found - known.z[:, None]) / (1 + known.z[:, None]) < NEAR
        report[f"templates {name}"] = scored(found[:, 0], known.z)
        report[f"templates {name}"]["true redshift among 5"] = float(right.any(1).mean())
    report["shift dictionary"] = scored(model.redshift(known.spectra), known.z)
    return report


def by_neighbours(model: Any, demo: Path, spectra: Spectra) -> np.ndarray:
    """Redshifts (B, 1) by the nearest simulated galaxies in embedding space."""
    store, made = SurveyStore.open(demo / "survey.lance"), {}
    for name in ("head-train", "validation"):
        vectors = Embeddings.read(demo / "embeddings" / f"{name}-spectrum.parquet").vectors
        made[name] = vectors, store.columns(["redshift_true"], name)["redshift_true"][:, None]
    probe = KNNProbe.fit(*made["head-train"], *made["validation"])
    return probe.predict(model.embed_spectra(spectra))


def refined(scan: Scan, proposed: np.ndarray) -> np.ndarray:
    """Of proposed redshifts the one near which templates fit best, and the best place there."""
    place = torch.from_numpy(np.log1p(proposed))[:, :, None]
    near = ((scan.log1p_redshift - place).abs() < NEAR).any(1)  # NaN is near to nothing
    best = scan.gain.where(near, -torch.inf).argmax(1)
    return np.expm1(scan.log1p_redshift[best].numpy())


def by_object(found: np.ndarray, known: Labelled) -> dict[str, Any]:
    """Share of objects all of whose spectra have the true redshift first, and among the k."""
    right = np.abs(found - known.z[:, None]) / (1 + known.z[:, None]) < NEAR
    _, object = np.unique(known.object, return_inverse=True)
    report: dict[str, Any] = {"NMAD": nmad(found[:, 0], known.z)}
    shares = {"among the first 1": right[:, 0], f"among the first {found.shape[1]}": right.any(1)}
    for name, good in shares.items():
        worst = np.ones(object.max() + 1, bool)
        np.logical_and.at(worst, object, good)
        report[name] = bootstrap(lambda x: float(np.mean(x)), worst)._asdict()
    return report


def one_by_one(model: Any, ours: dict[str, Eigenspectra], part: Labelled) -> list[dict[str, Any]]:
    """DESI's few objects: truth, and what the dictionary and templates say."""
    some = part.take(part.kind != "")
    scanned = scans(ours, some.spectra)
    kind, z = best_class(scanned)
    dictionary = model.redshift(some.spectra)
    return [
        {"id": str(some.object[i]), "class": str(some.kind[i]), "z": round(float(some.z[i]), 4),
         "dictionary": round(float(dictionary[i]), 4), "templates": round(float(z[i]), 4),
         "class by templates": str(kind[i])}
        for i in range(len(z))
    ]  # fmt: skip


def best_class(scanned: dict[str, Scan]) -> tuple[np.ndarray, np.ndarray]:
    """The class whose templates fit best, and their redshift."""
    names = np.array(list(scanned))
    best = np.argmin([scan.chi2 for scan in scanned.values()], axis=0)
    z = np.stack([scan.proposals(1)[0][:, 0] for scan in scanned.values()])
    return names[best], z[best, np.arange(len(best))]


def survey_validation(
    model: Any, ours: dict[str, Eigenspectra], theirs: dict[str, Eigenspectra], folder: Path
) -> dict[str, Any]:
    """Redshifts of spectra that were normalised by others, beside those that they predict."""
    spectra, z, predicted, run = normalised(folder)
    scanned = scans(ours, spectra)
    peaks, gain = scanned["GALAXY"].proposals()
    margin = (gain[:, 0] - gain[:, 1]) / scanned["GALAXY"].chi2
    found = {
        "predictions in the file": predicted,
        "shift dictionary": model.redshift(spectra),
        "galaxy templates learned on simulations": peaks[:, 0],
        "best of three classes learned on simulations": best_class(scanned)[1],
        "best of redrock's galaxies, SDSS's quasars": best_class(scans(theirs, spectra))[1],
    }
    groups = {f"z {a:g} to {b:g}": (z >= a) & (z < b) for a, b in pairwise(EDGES)}
    groups |= {f"run {name}": run == name for name in np.unique(run)}
    groups |= {"all": np.ones(len(z), bool), "sure redshifts": margin > SURE}
    report: dict[str, Any] = {}
    for group, rows in groups.items():
        report[group] = {"spectra": int(rows.sum())}
        for name, said in found.items():
            report[group][name] = scored(said[rows], z[rows])
            if name != "predictions in the file":
                report[group][name]["within .01, above the file's"] = difference(
                    SCORES["within .01"], said[rows], predicted[rows], z[rows]
                )._asdict()
    right = np.abs(peaks - z[:, None]) / (1 + z[:, None]) < NEAR
    report["all"]["galaxy templates, true redshift among 5"] = float(right.any(1).mean())
    return report


def scored(found: np.ndarray, z: np.ndarray) -> dict[str, Any]:
    """Every score with its interval."""
    return {name: bootstrap(score, found, z)._asdict() for name, score in SCORES.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
