"""What each ingredient of the spectrum side is worth.

    python benchmarks/ingredients.py v2-100k.lance WORK

Redshifts of test spectra by shift dictionaries, each learned without one ingredient; properties by
MLP probes on frozen features, more and more of them, and on tokens of transformers with other
objectives and stems; and how alike a spectrum's tokens are on DESI's and on SDSS's grid. One seed;
intervals are over test galaxies.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from appulse import pipeline
from appulse.align.model import Model
from appulse.evaluate.sample import labels_of
from appulse.metrics import bootstrap, fraction_within, nmad, r2
from appulse.recipes import Recipe, tiny
from appulse.spectrum.preprocess import BANDS, SpectrumInputs, as_tensors
from appulse.spectrum.redshift import CALIBRATION, ENOUGH, DictionaryConfig, ShiftDictionary
from appulse.survey.resample import to_grid
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import PROPERTIES
from appulse.tasks.probes import MLPProbe
from grids import SDSS
from record import write_result

SIZES = {"head-train": 5000, "validation": 1000, "test": 3000}
AT_ONCE = 250
FLAT = 3000.0  # bins of smoothing: nothing but the mean is taken out


class Galaxies:
    """Spectra and labels of the parts, some of each."""

    def __init__(self, store: SurveyStore):
        self.rows = {part: store.rows(part)[:n] for part, n in SIZES.items()}
        self.store = store
        self.y = {}
        for part, n in SIZES.items():
            columns = labels_of(store, part)
            self.y[part] = np.stack([columns[name][:n] for name in PROPERTIES], axis=1)

    def spectra(self, rows: np.ndarray) -> Spectra:
        """Of rows of the survey."""
        return self.store.take(rows, ["spectra"])["spectra"]

    def over(self, part: str, look: Callable[[Spectra], np.ndarray]) -> np.ndarray:
        """What `look` makes of a part's spectra, a few at a time."""
        pieces = np.array_split(self.rows[part], SIZES[part] // AT_ONCE)
        return np.concatenate([look(self.spectra(rows)) for rows in pieces])


def equal_weights(spectra: Spectra) -> Spectra:
    """Every pixel that is seen counts as the average one."""
    seen = spectra.ivar > 0
    mean = spectra.ivar.sum(1, keepdims=True) / np.maximum(seen.sum(1, keepdims=True), 1)
    return replace(spectra, ivar=np.where(seen, mean, 0).astype(np.float32))


def same(spectra: Spectra) -> Spectra:
    """Nothing changed."""
    return spectra


DICTIONARIES = {
    "all": (DictionaryConfig(), same),
    "every pixel counts the same": (DictionaryConfig(), equal_weights),
    "no high-pass": (DictionaryConfig(smoothing=FLAT), same),
    "1 template": (DictionaryConfig(templates=1), same),
    "4 templates": (DictionaryConfig(templates=4), same),
}


def redshifts(galaxies: Galaxies) -> dict[str, Any]:
    """Share within .003 and scatter, by dictionary."""
    learn_from = galaxies.store.rows("encoder-train")[:ENOUGH]
    known = galaxies.rows["head-train"][:CALIBRATION]
    z = galaxies.y["test"][:, 0]
    report = {}
    for name, (config, change) in DICTIONARIES.items():
        dictionary = ShiftDictionary(config).fit(change(galaxies.spectra(learn_from)))
        z_known = galaxies.y["head-train"][:CALIBRATION, 0]
        dictionary.calibrate(change(galaxies.spectra(known)), z_known)
        found = galaxies.over("test", partial(_redshift, dictionary, change))
        within = bootstrap(partial(fraction_within, limit=0.003), found, z, n=500)
        report[name] = {
            "within .003": _rounded(within),
            "NMAD": _rounded(bootstrap(nmad, found, z)),
        }
        print(name, report[name], flush=True)
    return report


def _redshift(
    dictionary: ShiftDictionary, change: Callable[[Spectra], Spectra], spectra: Spectra
) -> np.ndarray:
    return dictionary.redshift(change(spectra))


def probed(galaxies: Galaxies, x: dict[str, np.ndarray]) -> dict[str, Any]:
    """R² of each property by an MLP probe, and their mean."""
    y = galaxies.y
    fitted = MLPProbe.fit(x["head-train"], y["head-train"], x["validation"], y["validation"])
    found = fitted.predict(x["test"])
    scores = {
        name: _rounded(bootstrap(r2, found[:, i], y["test"][:, i], n=500))
        for i, name in enumerate(PROPERTIES)
    }
    mean = round(float(np.mean([value[0] for value in scores.values()])), 4)
    print(mean, scores, flush=True)
    return {"mean": mean, **scores}


def measured(galaxies: Galaxies, model: Model) -> dict[str, Any]:
    """Probes of what the tower measures beside tokens, one kind after another."""
    tower = model.spectrum
    x = {part: galaxies.over(part, lambda s: tower.prepare(s).features.numpy()) for part in SIZES}
    rest = BANDS + 1 + DictionaryConfig().templates  # where components and brightness begin
    kinds: dict[str, Any] = {
        "band fluxes": slice(0, BANDS),
        "+ shift": slice(0, BANDS + 1),
        "+ gains": slice(0, rest),
        "+ looks at rest, brightness": slice(None),
        "shift, looks at rest, brightness": [BANDS, *range(rest, x["test"].shape[1])],
        "looks at rest, brightness": slice(rest, None),
        "looks at rest": slice(rest, -1),
    }
    return {k: probed(galaxies, {p: v[:, some] for p, v in x.items()}) for k, some in kinds.items()}


def objectives() -> dict[str, Recipe]:
    """The demo's transformer, and others of its size and length of training."""
    ours = tiny()
    trunk, training = ours.spectrum.trunk, ours.pretrain_spectrum

    def other(**change: Any) -> Recipe:
        return replace(ours, spectrum=replace(ours.spectrum, trunk=replace(trunk, **change)))

    return {
        "masked": ours,
        "masked, the paper's stem": other(stem="standard"),
        "causal": other(causal=True),
        "random weights": replace(ours, pretrain_spectrum=replace(training, steps=1)),
    }


@torch.inference_mode()
def token_means(model: Model, spectra: Spectra) -> np.ndarray:
    return (
        model.spectrum.tokens(SpectrumInputs(*as_tensors(spectra), torch.zeros(1))).mean(1).numpy()
    )


def grids(galaxies: Galaxies, model: Model) -> dict[str, Any]:
    """Cosines between tokens on both grids, as positions tell: wavelengths, or pixel numbers."""
    spectra = galaxies.spectra(galaxies.rows["test"][:500])
    shorter = to_grid(spectra, SDSS)
    blue, red = spectra.wavelength[0, [0, -1]]
    numbered = np.linspace(blue, red, shorter.wavelength.shape[1])
    misplaced = replace(shorter, wavelength=np.broadcast_to(numbered, shorter.wavelength.shape))
    means = [torch.from_numpy(token_means(model, s)) for s in (spectra, shorter, misplaced)]
    middle, report = means[0].mean(0), {}
    for name, other in zip(("wavelengths", "pixel numbers"), means[1:], strict=True):
        cosine = F.cosine_similarity(means[0] - middle, other - middle).numpy()
        report[name] = np.percentile(cosine, [5, 50]).round(4).tolist()
    return report


def _rounded(values: tuple) -> list[float]:
    return [round(float(v), 6) for v in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    galaxies = Galaxies(SurveyStore.open(asked.survey))
    result: dict[str, Any] = {"galaxies": SIZES, "redshift": redshifts(galaxies)}
    for name, recipe in objectives().items():
        run = asked.work / name
        pipeline.pretrain_spectrum(asked.survey, run, recipe, device="cpu")
        model = Model(recipe.model)
        model.spectrum.load_pretrained(run)
        model.eval()
        if name == "masked":
            result["features"] = measured(galaxies, model)
            result["cosine between grids, 5 % and median"] = grids(galaxies, model)
        look = partial(token_means, model)
        x = {part: galaxies.over(part, look) for part in SIZES}
        result.setdefault("tokens", {})[name] = probed(galaxies, x)
    print(write_result("ingredients", result))


if __name__ == "__main__":
    main()
