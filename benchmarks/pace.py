"""Does a GPU wait for data? Steps of the recipe `small`, batches read or one batch again and again.

    python benchmarks/pace.py WORK          # needs a CUDA GPU; two minutes, a few GB in WORK
    python benchmarks/pace.py WORK --smoke  # small networks, wherever: does it run?

Each time is the median of 60 steps, after 20 others, of the loop that trains; it waits for the GPU
once in each step. Galaxies are simulated at the size that the recipe needs.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appulse import pipeline
from appulse.align.model import Model
from appulse.align.pairs import cache_pairs, pair_batches, pair_loss
from appulse.align.towers import pretraining_trunk
from appulse.device import resolve_device
from appulse.image.objective import flux_batches, image_objective
from appulse.recipes import Recipe, small
from appulse.spectrum.masked import MaskedModel
from appulse.survey.batches import BatchOrder, read_ahead
from appulse.survey.store import SurveyStore
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder
from record import write_result

GALAXIES, SIZE = 4000, 152
WARM, TIMED = 20, 60  # steps


def smoke(made: Recipe) -> Recipe:
    """Networks and batches that a CPU can do."""
    sizes: dict[str, Any] = {"width": 48, "depth": 1, "heads": 2}
    dino: Any = made.objective
    return replace(
        made,
        image=replace(made.image, trunk=replace(made.image.trunk, **sizes)),
        spectrum=replace(made.spectrum, trunk=replace(made.spectrum.trunk, **sizes)),
        objective=replace(dino, head=replace(dino.head, prototypes=64)),
        pretrain_spectrum=replace(made.pretrain_spectrum, batch_size=8),
        pretrain_image=replace(made.pretrain_image, batch_size=4),
        align=replace(made.align, batch_size=16),
    )


class Bench:
    """One survey, one recipe, and a folder for what is made."""

    def __init__(self, work: Path, made: Recipe, galaxies: int):
        self.work, self.made, self.place = work, made, resolve_device()
        self.survey = work / "survey.lance"
        self.store: SurveyStore = pipeline.simulate(galaxies, self.survey, size=SIZE)

    def image(self) -> dict[str, float]:
        """Self-distillation."""
        made, training = self.made, self.made.pretrain_image
        trunk = pretraining_trunk(made.image.trunk)
        model, groups, after = image_objective(made.objective, trunk, training.steps, self.store)
        batches = flux_batches(self.store, training, self.place)
        return self.pace("image", model, lambda m, x: m.loss(x), batches, training, groups, after)

    def spectrum(self) -> dict[str, float]:
        """Masked modelling."""
        training = self.made.pretrain_spectrum
        rows, take = self.store.rows("encoder-train"), partial(self.store.take, fields=("spectra",))

        def batches(step: int) -> Iterator[Any]:
            return read_ahead(take, BatchOrder(rows, **training.order(step)))

        model = MaskedModel(self.made.spectrum.trunk, self.made.masking)
        return self.pace(
            "spectrum", model, lambda m, batch: m.loss(batch["spectra"]), batches, training
        )

    def align(self) -> dict[str, float]:
        """Contrast of pairs; the spectrum transformer is locked, its tokens are read."""
        quick = replace(self.made.pretrain_spectrum, steps=2)
        run = self.work / "pretrained"
        pipeline.pretrain_spectrum(self.survey, run, replace(self.made, pretrain_spectrum=quick))
        model, training = Model(self.made.model), self.made.align
        model.spectrum.load_pretrained(run)
        self.made.learning.apply(model)
        part = ("encoder-train", self.place.type, training.precision)
        pairs = cache_pairs(self.work / "pairs", model, self.store, *part)
        features = pairs.take(slice(None), ["image.features", "spectrum.features"])
        model.standardise(features["image.features"], features["spectrum.features"])
        return self.pace(
            "align", model, pair_loss, pair_batches(pairs, training, self.place), training
        )

    def pace(
        self,
        name: str,
        model: Any,
        loss: Callable[[Any, Any], torch.Tensor],
        batches: Callable[[int], Iterator[Any]],
        training: TrainingConfig,
        groups: Any = None,
        after: Callable[[Any], None] | None = None,
    ) -> dict[str, float]:
        """Steps per second."""
        again, found = next(batches(0)), {}
        for source, some in {"reading": batches, "one batch": lambda step: repeat(again)}.items():
            times: list[float] = []

            def note(model: Any, times: list[float] = times) -> None:
                if after:
                    after(model)
                times.append(time.perf_counter())

            train(
                model,
                loss,
                some,
                replace(training, steps=WARM + TIMED),
                RunFolder(self.work / name / source, {}),
                groups=groups,
                after_step=note,
                title=f"{name}, {source}",
            )
            found[source] = 1 / float(np.median(np.diff(times[WARM:])))
        print(f"{name:9} {found['reading']:6.2f} steps/s of {found['one batch']:6.2f}", flush=True)
        return found | {"rows of a step": training.batch_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    if not (asked.smoke or torch.cuda.is_available()):
        sys.exit("no CUDA GPU found: this needs one and torch for CUDA, or --smoke")
    made = smoke(small()) if asked.smoke else small()
    bench = Bench(asked.work, made, 400 if asked.smoke else GALAXIES)
    paces = {name: getattr(bench, name)() for name in ("spectrum", "image", "align")}
    if not asked.smoke:
        about = {"GPU": torch.cuda.get_device_name(), "steps / s": paces}
        print(write_result("pace", about | {"GB": torch.cuda.max_memory_allocated() / 1e9}))


if __name__ == "__main__":
    main()
