"""Which real objects are galaxies, which quasars, and which are odd: part of real_galaxies.py."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import appulse
from appulse.evaluate.baselines import spectrum_pixels
from appulse.metrics import balanced_accuracy, bootstrap
from appulse.search.embeddings import Embeddings
from appulse.spectrum.eigenspectra import Eigenspectra, Scan
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.tasks.anomaly import EmbeddingDensity, find_anomalies
from real_data import Labelled, scans

REFERENCE = 1000  # simulated galaxies
SURE = np.log1p(40.0)  # least of ln(1 + Δχ²) in it: DESI's cut of bright galaxies (Hahn+ 2023)
NEIGHBOURS = 5
BLOCKS = 16  # of a spectrum that is shuffled


# --- galaxy or quasar


def classes(
    model: Any,
    ours: dict[str, Eigenspectra],
    theirs: dict[str, Eigenspectra],
    parts: list[Labelled],
) -> dict[str, Any]:
    """Balanced accuracy by object, of those without warning and of all; stars one by one."""
    kind, clean, object = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("kind", "clean", "object")
    )
    fits = [scans(ours, part.spectra) for part in parts]
    told = np.concatenate([fit_features(fit) for fit in fits])
    embedded = np.concatenate([model.embed_spectra(part.spectra) for part in parts])
    pixels = np.concatenate([spectrum_pixels(part.spectra) for part in parts])
    published = np.concatenate([_contrast(scans(theirs, part.spectra)) for part in parts])
    report: dict[str, Any] = {}
    for group, rows in (("without warning", clean), ("all", np.ones(len(clean), bool))):
        rows = rows & np.isin(kind, ["GALAXY", "QSO"])
        y, names = kind[rows] == "QSO", object[rows]
        regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        reduced = make_pipeline(PCA(16, random_state=0), *(s for _, s in regression.steps))
        odds = {
            "better fit, templates learned on simulations, no label": told[rows, 0],
            "better fit, redrock's galaxies, SDSS's quasars": published[rows],
            "regression on fits": left_out(regression, told[rows], y, names),
            "regression on embeddings": left_out(regression, embedded[rows], y, names),
            "neighbours of embeddings": left_out(
                KNeighborsClassifier(NEIGHBOURS), embedded[rows], y, names
            ),
            "regression on pixels' components": left_out(reduced, pixels[rows], y, names),
        }
        report[group] = {name: by_object(score, y, names) for name, score in odds.items()}
    chi2 = np.concatenate([np.stack([f.chi2 for f in fit.values()], 1) for fit in fits])
    report["stars"] = [
        {"object": str(object[i]), "clean": bool(clean[i]),
         "chi2 per bin": dict(zip(ours, chi2[i].round(3).tolist(), strict=True))}
        for i in np.flatnonzero(kind == "STAR")
    ]  # fmt: skip
    return report


def _contrast(fit: dict[str, Scan]) -> np.ndarray:
    """Positive where quasars fit better than galaxies."""
    return np.log(fit["GALAXY"].chi2 / fit["QSO"].chi2)


def fit_features(fit: dict[str, Scan]) -> np.ndarray:
    """Five logarithms (B, 5): what fits better, how surely, and how well.

    Galaxies against quasars and against stars; Δχ² to the next best redshift, and to no galaxy
    at all; χ² per bin, which also scales the two before.
    """
    chi2 = fit["GALAXY"].chi2
    gain = np.nan_to_num(fit["GALAXY"].proposals(2)[1])
    best, margin = gain[:, 0] / chi2, (gain[:, 0] - gain[:, 1]) / chi2
    ratios = [_contrast(fit), np.log(chi2 / fit["STAR"].chi2)]
    return np.stack([*ratios, np.log1p(margin), np.log1p(best), np.log(chi2)], 1)


def left_out(learner: Any, x: np.ndarray, y: np.ndarray, object: np.ndarray) -> np.ndarray:
    """Probability of a quasar less one half, by a learner that has not seen the object."""
    chance = cross_val_predict(
        learner, x, y, groups=object, cv=LeaveOneGroupOut(), method="predict_proba"
    )
    return chance[:, 1] - 0.5


def by_object(odds: np.ndarray, quasar: np.ndarray, object: np.ndarray) -> dict[str, Any]:
    """Balanced accuracy; an object is what its spectra say in the mean."""
    names, first, index = np.unique(object, return_index=True, return_inverse=True)
    said = np.bincount(index, odds) > 0
    wrong = said != quasar[first]
    return {
        "balanced accuracy": bootstrap(balanced_accuracy, said, quasar[first])._asdict(),
        "galaxies, quasars": [int((~quasar[first]).sum()), int(quasar[first].sum())],
        "wrong": [str(name) for name in names[wrong]],
    }


# --- odd objects


def anomalies(
    model: Any, demo: Path, ours: dict[str, Eigenspectra], parts: list[Labelled], real: Path
) -> dict[str, Any]:
    """AUROC of each class against real galaxies, one spectrum for each object."""
    groups = gathered(parts, appulse.read_spectra(real / "sky_sdss.npz"))
    store = SurveyStore.open(demo / "survey.lance")
    known = store.take(store.rows("head-train")[:REFERENCE], ["spectra"])["spectra"]
    vectors = Embeddings.read(demo / "embeddings" / "head-train-spectrum.parquet").vectors
    fitted = fit_features(scans(ours, known))
    spaces = {
        "fits": (fitted[fitted[:, 2] > SURE], lambda s: fit_features(scans(ours, s))),
        "embeddings": (vectors, model.embed_spectra),
    }
    report: dict[str, Any] = {"objects": {n: sum(map(len, g)) for n, g in groups.items()}}
    for space, (reference, measure) in spaces.items():
        measured = {n: np.concatenate([measure(s) for s in g]) for n, g in groups.items()}
        report[space] = {
            "reference": {"simulated galaxies": len(reference)},
            "simulated": against_simulations(measured, reference, whitened=space == "embeddings"),
            "real": against_real(measured),
        }
    return report


def gathered(parts: list[Labelled], sky: Spectra) -> dict[str, list[Spectra]]:
    """Spectra of each class, by wavelength grid; SDSS's galaxies come first and are corrupted."""
    groups = {k: [part.first(k).spectra for part in parts] for k in ("GALAXY", "QSO", "STAR")}
    groups["sky"] = [sky]
    whole, rng = groups["GALAXY"][0], np.random.default_rng(0)
    for kind in ("reversed", "shuffled", "one arm times 3", "spikes"):
        groups[kind] = [corrupted(whole, kind, rng)]
    return groups


def corrupted(spectra: Spectra, kind: str, rng: np.random.Generator) -> Spectra:
    """Spectra with their wavelengths mixed up, or with flux that no galaxy has."""
    length = spectra.flux.shape[1]
    order = np.tile(np.arange(length), (len(spectra), 1))
    if kind == "reversed":
        order = order[:, ::-1]
    if kind == "shuffled":
        blocks = np.array_split(np.arange(length), BLOCKS)
        order = np.stack(
            [np.concatenate([blocks[i] for i in rng.permutation(BLOCKS)]) for _ in order]
        )
    flux, ivar, mask = (
        np.take_along_axis(a, order, 1) for a in (spectra.flux, spectra.ivar, spectra.mask)
    )
    if kind == "one arm times 3":
        flux[:, length // 3 : 2 * length // 3] *= 3
    if kind == "spikes":
        for row in flux:
            row[rng.choice(length, 200, replace=False)] *= 20
    return Spectra.from_arrays(flux, wavelength=spectra.wavelength, ivar=ivar, mask=mask)


def against_simulations(
    measured: dict[str, np.ndarray], reference: np.ndarray, *, whitened: bool
) -> dict[str, dict[str, Any]]:
    """By distance to simulated galaxies, and by their density."""
    odd = find_anomalies(np.concatenate(list(measured.values())), reference, whitened=whitened)
    return {
        "distance": aurocs(_split(odd.distance, measured)),
        "density": aurocs(_split(-odd.log_density, measured)),
    }


def against_real(measured: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """By distance to real galaxies other than itself, and by their density in five folds."""
    galaxies = measured["GALAXY"]
    rows = np.concatenate(list(measured.values()))
    own = np.concatenate([_own(name, len(x)) for name, x in measured.items()])
    distance = cdist(rows, galaxies)
    distance[own[:, None] == np.arange(len(galaxies))] = np.inf
    fifth = np.sort(distance, 1)[:, NEIGHBOURS - 1]
    odd = np.zeros(len(rows))
    folds = list(GroupKFold(5).split(galaxies, groups=np.arange(len(galaxies))))
    for known, held in folds:
        density = -EmbeddingDensity.fit(galaxies[known]).log_prob(rows)
        mine = np.isin(own, held)
        odd[mine] = density[mine]
        odd[own < 0] += density[own < 0] / len(folds)
    return {
        "distance": aurocs(_split(fifth, measured)),
        "density": aurocs(_split(odd, measured)),
    }


def _own(name: str, rows: int) -> np.ndarray:
    """Which galaxy an object is, or was before it was corrupted; -1 for others."""
    return np.full(rows, -1) if name in ("QSO", "STAR", "sky") else np.arange(rows)


def _split(odd: np.ndarray, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(x) for x in measured.values()])[:-1]
    return dict(zip(measured, np.split(odd, ends), strict=True))


def aurocs(odd: dict[str, np.ndarray]) -> dict[str, Any]:
    """Area under the ROC curve of each class against galaxies, with its interval."""
    galaxies = odd.pop("GALAXY")
    corrupt = [x for name, x in odd.items() if name not in ("QSO", "STAR", "sky")]
    return {n: _auroc(galaxies, x) for n, x in (odd | {"corrupted": np.hstack(corrupt)}).items()}


def _auroc(usual: np.ndarray, odd: np.ndarray, draws: int = 1000) -> dict[str, float]:
    """Both classes are resampled, so that neither can be missing."""
    rng = np.random.default_rng(0)

    def area(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean((b[:, None] > a) + 0.5 * (b[:, None] == a)))

    drawn = [area(*(rng.choice(x, len(x)) for x in (usual, odd))) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": area(usual, odd), "low": float(low), "high": float(high)}
