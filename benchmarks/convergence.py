"""Whether baselines have converged: validation scores at their budget, and at twice as much.

    python benchmarks/convergence.py v2-100k.lance WORK
    python benchmarks/convergence.py demo/survey.lance WORK2 --only "ResNet, 2368 labels" …

WORK is that of features.py, whose finished trainings are not done again. All labels of head-train;
scores are of the 1,000 galaxies that stop a training, intervals of the gain are a paired bootstrap
over them. Twice the budget is twice the steps of a schedule, and twice the patience.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from appulse.evaluate import baselines
from appulse.evaluate.baselines import Boosting, magnitudes_and_colours
from appulse.evaluate.feature_towers import FeatureTowersConfig, fit_feature_towers
from appulse.evaluate.moco import MocoConfig, train_moco
from appulse.evaluate.resnet import ResNetConfig
from appulse.evaluate.rivals import MOCO, MOCO_GALAXIES, MOCO_SIZE, MOCO_WIDTH
from appulse.evaluate.spline_flow import SplinePosterior
from appulse.evaluate.supervised import SupervisedConfig, conv_att, resnet, stretched
from appulse.image.preprocess import to_nanomaggies
from appulse.metrics import balanced_accuracy, difference, mean_r2, partner_ranks, recall_at_k
from appulse.provenance import commit
from appulse.survey.resample import fit
from appulse.tasks import network
from appulse.tasks.probes import MLPProbe
from features import Bench, Made, learned_from_pixels
from features_towers import FEATURE_TRAINING, NANOMAGGIES, Towers
from record import RESULTS, write_result

AT_ONCE = 500


class Judged(NamedTuple):
    """A method: how it is scored, and what it makes of validation after so many times its budget.

    Truths go to the score beside what was made.
    """

    metric: str
    score: Callable[..., float]
    after: Callable[[int], np.ndarray]
    truth: tuple[np.ndarray, ...] = ()


@contextmanager
def more_rounds(times: int) -> Iterator[None]:
    """Probes, spline flows and boosting may learn for so many times the rounds."""
    with ExitStack() as stack:
        for module, names in {network: ("EPOCHS",), baselines: ("ROUNDS",)}.items():
            for name in (*names, "PATIENCE"):
                value = times * getattr(module, name)
                stack.enter_context(patch.object(module, name, value))
        yield


class Baselines:
    """Every baseline that takes training, on the galaxies of a bench."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.y, self.y_val = bench.y["head-train"], bench.y["validation"]

    @cached_property
    def towers(self) -> Towers:
        """Those of the first seed, trained if they are not there."""
        return Towers(self.bench.survey, self.bench.work / "seed-0", 0)

    def every(self) -> dict[str, Judged]:
        """By name."""
        everything, y_val = len(self.y), (self.y_val,)
        made = {
            "aperture MLP": Judged("mean R²", mean_r2, partial(self.apertures, MLPProbe), y_val),
            "aperture boosting": Judged(
                "mean R²", mean_r2, partial(self.apertures, Boosting), y_val
            ),
            "spline flow, images": Judged("log density", np.mean, self.spline_flow),
            "MLP towers": Judged("top-10", partial(recall_at_k, k=10), self.feature_towers),
        }
        for count in (1000, everything):
            for name, recipe in (("ResNet", resnet), ("Conv+Att", conv_att)):
                after = partial(self.network, name, recipe(count, 0), count, self.bench.y)
                made[f"{name}, {count} labels"] = Judged("mean R²", mean_r2, after, y_val)
        classes, config = self.bench.morphology, resnet(everything, 0)
        told = partial(self.network, "ResNet", config, everything, classes)
        return {
            **made,
            f"ResNet, {everything} labels, morphology": Judged(
                "balanced accuracy", balanced_accuracy, told, (classes["validation"],)
            ),
            "MoCo v2, MLP probe": Judged("mean R²", mean_r2, self.moco, y_val),
        }

    def apertures(self, learner: type[MLPProbe] | type[Boosting], times: int) -> np.ndarray:
        """From aperture fluxes."""
        x, x_val = (self.fluxes(part) for part in ("head-train", "validation"))
        with more_rounds(times):
            return learner.fit(x, self.y, x_val, self.y_val).predict(x_val)

    def fluxes(self, part: str) -> np.ndarray:
        """Magnitudes and colours in apertures."""
        flux = NANOMAGGIES * np.sinh(self.towers.features(part).image)
        return magnitudes_and_colours(flux.reshape(len(flux), 3, -1))

    def spline_flow(self, times: int) -> np.ndarray:
        """Densities of the properties, from embeddings of images."""
        vectors = self.bench.kept("vectors of appulse", 0, dict)
        x, x_val = (vectors[f"image, {part}"] for part in ("head-train", "validation"))
        with more_rounds(times):
            flow = SplinePosterior.fit(x, self.y, x_val, self.y_val)
        return flow.log_prob(self.y_val, x_val)

    def feature_towers(self, times: int) -> np.ndarray:
        """Ranks of the images' own spectra among all."""
        seen = {part: self.towers.features(part) for part in ("encoder-train", "validation")}
        config = FeatureTowersConfig(stretched(FEATURE_TRAINING, times))
        out = self.run("MLP towers, same", times)
        towers = fit_feature_towers(
            seen["encoder-train"], seen["validation"], out, config, device="cpu"
        )
        image = towers.image_vectors(seen["validation"].image)
        return partner_ranks(image @ towers.spectrum_vectors(seen["validation"].spectrum).T)

    def network(
        self, name: str, config: SupervisedConfig, count: int, y: Made, times: int
    ) -> np.ndarray:
        """Properties or classes by a network on pixels, from so many labels."""
        return learned_from_pixels(self.bench, config, name, count, y, times)("validation")

    def moco(self, times: int) -> np.ndarray:
        """Pretrained as `evaluate` does it, then a probe."""
        config = MocoConfig(stretched(MOCO, times), ResNetConfig(MOCO_WIDTH))
        rows = self.bench.store.rows("encoder-train")[:MOCO_GALAXIES]
        moco = train_moco(self.cutouts(rows), config, self.run("MoCo", times), device="cpu")
        x, x_val = (
            moco.embed(self.cutouts(self.bench.rows[part])) for part in ("head-train", "validation")
        )
        return MLPProbe.fit(x, self.y, x_val, self.y_val).predict(x_val)

    def cutouts(self, rows: np.ndarray) -> np.ndarray:
        """Nanomaggies in half precision."""
        pieces = np.array_split(rows, -(-len(rows) // AT_ONCE))
        images = (self.bench.store.take(some, ["images"])["images"] for some in pieces)
        cut = (fit(to_nanomaggies(some), MOCO_SIZE) for some in images)
        return np.concatenate([some.filled().astype(np.float16) for some in cut])

    def run(self, name: str, times: int) -> Path:
        """The folder of a training; that of features.py if it is one."""
        runs = self.bench.work / "seed-0" / "runs"
        return runs / (name if times == 1 else f"{name}, {times} times")


def gain(judged: Judged) -> dict[str, str | float]:
    """Scores of both budgets, their difference and its interval."""
    once, twice = judged.after(1), judged.after(2)
    more = difference(judged.score, twice, once, *judged.truth)
    return {
        "metric": judged.metric,
        "budget": float(judged.score(once, *judged.truth)),
        "twice": float(judged.score(twice, *judged.truth)),
        "gain": more.value,
        "low": more.low,
        "high": more.high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="+", help="baselines; others stay as they were")
    asked = parser.parse_args()
    every = Baselines(Bench(asked.survey, asked.work)).every()
    path, code = RESULTS / "convergence.json", commit()
    for name in asked.only or every:
        found = {name: gain(every[name]) | {"commit": code}}
        print(found, flush=True)
        before = json.loads(path.read_text())["results"] if path.exists() else {}
        write_result("convergence", before | found)


if __name__ == "__main__":
    main()
