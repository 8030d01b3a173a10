"""Generated spectra against spectra of the nearest neighbours of a galaxy's image.

    python benchmarks/generate.py v2-100k.lance WORK [--test 1000]

WORK holds the demo's stages on that survey; those that lack are run. A generator is learned from
head-train and asked about images of test galaxies. Rivals look among the same galaxies: the
spectra of the 16 nearest in image embeddings, and a Gaussian (Ledoit & Wolf's covariance) fitted to
them. All are compared by CRPS (less is better; pairs of draws are averaged so that 16 draws are as
good as many): in the 18 numbers of a spectrum (redshift, brightness, 16 components at rest), in the
observed flux in bands of 16 Å relative to the galaxy's median flux, and in break, lines and colours
measured on the spectra. Without an image, generated spectra are compared with the test population
by Wasserstein distances.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance
from sklearn.covariance import LedoitWolf

from appulse.evaluate.posteriors import generation_plots
from appulse.inference.calibration import crps
from appulse.metrics import bootstrap
from appulse.search.embeddings import Embeddings
from appulse.spectrum.indices import LINES, d4000, equivalent_width
from appulse.survey.photometry import filter_fluxes
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import label_columns
from appulse.tasks.generate import Generator, latents
from record import write_result
from stages import embeddings

NEIGHBOURS, DRAWS, FREE = 16, 64, 2000
BAND = 20  # pixels of 0.8 Å
DOCS = Path(__file__).parents[1] / "docs"

Scores = dict[str, np.ndarray]  # one CRPS for each galaxy, NaN where the truth is not seen


def statistics(spectra: Spectra, redshift: np.ndarray) -> np.ndarray:
    """D4000, equivalent widths of lines in Å, g - r and r - z: (B, 2 + lines + 1)."""
    flux = filter_fluxes(spectra)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = -2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    widths = [equivalent_width(spectra, redshift, line) for line in LINES.values()]
    colours = [magnitude[:, 0] - magnitude[:, 1], magnitude[:, 1] - magnitude[:, 2]]
    return np.stack([d4000(spectra, redshift), *widths, *colours], 1)


STATISTICS = ("D4000", *(f"{name} width" for name in LINES), "g - r", "r - z")


def bands(flux: np.ndarray) -> np.ndarray:
    """Means over 16 Å."""
    usable = flux.shape[1] // BAND * BAND
    return flux[:, :usable].reshape(len(flux), -1, BAND).mean(2)


def gaussian_draws(ensemble: np.ndarray, scale: np.ndarray, seed: int) -> np.ndarray:
    fit = LedoitWolf().fit(ensemble / scale)
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(fit.location_, fit.covariance_, DRAWS) * scale


def crps_of_one(drawn: np.ndarray, true: np.ndarray) -> np.ndarray:
    """CRPS of each column, draws without a number left out; NaN where the truth has none."""
    out = np.full(len(true), np.nan)
    known = np.isfinite(true)
    whole = known & np.isfinite(drawn).all(0)
    out[whole] = crps(drawn[None][..., whole], true[None][..., whole])[0]
    for k in np.flatnonzero(known & ~whole):
        x = drawn[np.isfinite(drawn[:, k]), k]
        if len(x) > 1:
            out[k] = crps(x[None, :, None], true[None, None, k])[0, 0]
    return out


def rivals(
    generator: Generator, train: np.ndarray, drawn: np.ndarray, near: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """Draws of every method for each test galaxy, as the numbers of a spectrum."""
    scale = train.std(0)
    for row, mine in enumerate(drawn):
        ensemble = train[near[row]]
        gaussian = gaussian_draws(ensemble, scale, row)
        gaussian[:, 0] = np.maximum(gaussian[:, 0], 1e-3)  # no negative redshifts
        yield {"generator": mine, "neighbours": ensemble, "Gaussian of them": gaussian}


def score(
    generator: Generator, train: np.ndarray, drawn: np.ndarray, near: np.ndarray, true: dict
) -> dict[str, Scores]:
    """CRPS by method and aspect."""
    scale = train.std(0)
    kinds = ("redshift", "brightness", "shape", "flux", *STATISTICS)
    table: dict[str, dict[str, list[float]]] = {}
    for row, methods in enumerate(rivals(generator, train, drawn, near)):
        for name, x in methods.items():
            numbers = crps_of_one(x / scale, true["latents"][row] / scale)
            made = generator.spectra(x)
            flux = crps_of_one(bands(made.flux) / true["median"][row], true["bands"][row])
            measured = crps_of_one(statistics(made, x[:, 0]), true["statistics"][row])
            values = (*numbers[:2], numbers[2:].mean(), np.nanmean(flux), *measured)
            for kind, value in zip(kinds, values, strict=True):
                table.setdefault(kind, {}).setdefault(name, []).append(float(value))
    return {k: {n: np.array(v) for n, v in by.items()} for k, by in table.items()}


def truth(space_of: Generator, spectra: Spectra, redshift: np.ndarray) -> dict:
    median = np.median(spectra.flux, axis=1).clip(min=0.05)
    seen = bands(np.where(spectra.mask, np.nan, spectra.flux)) / median[:, None]
    return {
        "latents": latents(space_of.space, spectra, redshift),
        "median": median,
        "bands": seen,
        "statistics": statistics(spectra, redshift),
    }


def summary(scores: dict[str, Scores]) -> dict[str, dict[str, list[float]]]:
    """Means with 95 % intervals, and paired differences to the generator."""

    def mean(x: np.ndarray) -> list[float]:
        return [round(v, 5) for v in bootstrap(lambda a: float(np.nanmean(a)), x)]

    found = {}
    for kind, by in scores.items():
        ours = by["generator"]
        found[kind] = {name: mean(values) for name, values in by.items()}
        found[kind] |= {f"{n} - ours": mean(v - ours) for n, v in by.items() if n != "generator"}
        print(kind, found[kind], flush=True)
    return found


def population(
    free: tuple[Spectra, np.ndarray], train: np.ndarray, test: np.ndarray
) -> dict[str, dict[str, float]]:
    """Wasserstein distance to test galaxies, in their standard deviations; and of head-train's."""
    made = statistics(*free)
    found = {}
    for k, name in enumerate(STATISTICS):
        columns = [x[np.isfinite(x[:, k]), k] for x in (made, train, test)]
        low, high = np.percentile(columns[2], [1, 99])
        scale, (mine, theirs, real) = columns[2].std(), (np.clip(c, low, high) for c in columns)
        found[name] = {
            "generated": round(wasserstein_distance(mine, real) / scale, 4),
            "other galaxies": round(wasserstein_distance(theirs, real) / scale, 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=int, help="all of head-train, if left out")
    parser.add_argument("--test", type=int, default=1000)
    arguments = parser.parse_args()
    store, made = SurveyStore.open(arguments.survey), embeddings(arguments.survey, arguments.work)
    column = label_columns(store.names)["redshift"]
    parts = {}
    for part, n in (("head-train", arguments.train), ("test", arguments.test)):
        taken = store.take(store.rows(part)[:n], ["spectra", column])
        images = Embeddings.read(made / f"{part}-image.parquet")[:n]
        parts[part] = taken["spectra"], taken[column], images
    start = time.process_time()
    generator = Generator.fit(*parts["head-train"], device="cpu")
    seconds = time.process_time() - start
    train = latents(generator.space, *parts["head-train"][:2])
    spectra, redshift, images = parts["test"]
    near = np.argsort(-images.vectors @ parts["head-train"][2].vectors.T, 1)[:, :NEIGHBOURS]
    drawn = generator.sample(DRAWS, images)
    true = truth(generator, spectra, redshift)
    scores = summary(score(generator, train, drawn, near, true))
    free = generator.sample(FREE, seed=1)[0]
    others = statistics(*parts["head-train"][:2])
    found = population((generator.spectra(free), free[:, 0]), others, true["statistics"])
    plot = generation_plots(generator, images[:4], spectra[:4])[0]
    plot.figure.savefig(DOCS / "generated.png", dpi=130, facecolor="white")
    about = {"learned from": len(train), "scored": len(drawn), "CPU s": round(seconds, 1)}
    print(write_result("generate", {**about, "CRPS": scores, "without an image": found}))


if __name__ == "__main__":
    main()
