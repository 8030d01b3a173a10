"""What each way to pretrain the image transformer is worth, at the size of the recipe `tiny`.

    appulse simulate --n 100000 --seed 1002 --out v2-100k.lance
    python benchmarks/image_pretraining.py v2-100k.lance WORK

Transformers learn on encoder-train without labels; probes read their class tokens, nothing is
aligned. Galaxies, probes and scores are those of features.py. What is in WORK is not done again.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appulse import pipeline
from appulse.align.towers import ImageTower, ImageTowerConfig, pretraining_trunk
from appulse.image.augment import CropConfig
from appulse.image.contrast import ContrastConfig
from appulse.image.dino import DinoConfig
from appulse.image.dino_head import DinoHeadConfig
from appulse.metrics import accuracy
from appulse.recipes import Recipe, tiny
from appulse.survey.survey import PROPERTIES
from features import Bench, Made, probed
from features_table import Table
from features_towers import Vectors
from record import write_result

DINO = DinoConfig(
    crops=CropConfig(whole=72, part=36, parts=4),
    head=DinoHeadConfig(prototypes=1024, hidden=256, bottleneck=64),
    warmup=100,
    stochastic_depth=0.0,
)
WAYS: dict[str, DinoConfig | ContrastConfig] = {
    "self-distillation": DINO,
    "contrast, light as it is": ContrastConfig(brightness=0.0, colour=0.0),
    "contrast": ContrastConfig(),
}
SEED, AT_ONCE = 0, 500


def recipe(objective: DinoConfig | ContrastConfig) -> Recipe:
    """That of the demo; self-distillation with the rates that suit it."""
    made = replace(tiny(), objective=objective)
    if isinstance(objective, ContrastConfig):
        return made
    training = replace(made.pretrain_image, batch_size=64, learning_rate=1e-3, weight_decay=0.04)
    return replace(made, pretrain_image=training)


def trained(survey: Path, out: Path, objective: DinoConfig | ContrastConfig) -> Made:
    """Pretrains in a run folder; what it took."""
    start = time.process_time()
    pipeline.pretrain_image(survey, out, recipe(objective), device="cpu")
    return {"CPU-s": np.array(time.process_time() - start)}


def tower(run: Path | None) -> ImageTower:
    """A pretrained transformer, or one with random weights."""
    torch.manual_seed(SEED)
    made = ImageTower(ImageTowerConfig(pretraining_trunk(tiny().image.trunk), None))
    if run is not None:
        made.load_pretrained(run)
    return made.eval()


@torch.inference_mode()
def vectors(bench: Bench, run: Path | None) -> Vectors:
    """Class tokens of the three parts."""
    seen, made = tower(run), {}
    for part, rows in bench.rows.items():
        pieces = np.array_split(rows, -(-len(rows) // AT_ONCE))
        images = (bench.store.take(some, ["images"])["images"] for some in pieces)
        made[part] = torch.cat([seen(seen.prepare(batch)) for batch in images]).numpy()
    return made


def report(table: Table, name: str, seconds: float) -> dict[str, Any]:
    """R² of the properties and accuracy of the morphology, by the MLP probe, with intervals."""
    of = partial(table.score, f"{name}, image", "MLP")
    scores = {target: of(target) for target in PROPERTIES}
    scores["morphology, accuracy"] = of("morphology", accuracy)
    scores["mean R²"] = table.mean_r2(f"{name}, image", "MLP")
    found = {title: table.estimate(score) for title, score in scores.items() if score}
    return {"CPU-s": round(seconds, 1), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    bench, results = Bench(asked.survey, asked.work), {}
    for name in ("random weights", *WAYS):
        run, seconds = None, 0.0
        if name in WAYS:
            run = asked.work / "runs" / name
            train = partial(trained, asked.survey, run, WAYS[name])
            seconds = float(bench.kept(f"time of {name}", SEED, train)["CPU-s"])
        x = bench.kept(f"vectors of {name}", SEED, partial(vectors, bench, run))
        bench.kept(f"{name}, image", SEED, partial(probed, bench, x, SEED))
        results[name] = report(Table(bench), name, seconds)
        print(name, results[name], flush=True)
    print(write_result("image_pretraining", results))


if __name__ == "__main__":
    main()
