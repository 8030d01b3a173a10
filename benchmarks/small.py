"""The recipe `small` on a GPU, for as many steps as some minutes allow: pace, and what it learned.

    python benchmarks/small.py OUT --galaxies 50000 --spectrum 2000 --image 2000 --align 1500

The galaxies are the first of survey v2-100k, with the larger images that the recipe needs. Pace is
the median time of a step on batches that are read, and on one batch again and again: what reading
costs a GPU. Scores are of the test part; probes know all labels of head-train, one seed.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appulse import pipeline
from appulse.align.towers import pretraining_trunk
from appulse.device import resolve_device
from appulse.evaluate.retrieval import Matches, rank
from appulse.image.objective import flux_batches, image_objective
from appulse.metrics import balanced_accuracy, fraction_within, nmad, r2, recall_at_k
from appulse.recipes import Recipe, small
from appulse.search.embeddings import Embeddings
from appulse.spectrum.masked import MaskedModel
from appulse.survey.batches import BatchOrder, loader, read_ahead
from appulse.survey.store import SurveyStore
from appulse.survey.survey import PROPERTIES
from appulse.tasks.probes import KNNProbe, MLPProbe
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder
from record import write_result

SEED, SIZE = 1002, 152  # of survey v2-100k; pixels
TIMED, WARM = 60, 20  # steps, and those of them before the clock is read
LABELS = (*(f"{name}_catalogue" for name in PROPERTIES), "morphology_catalogue")


def shorter(training: TrainingConfig, steps: int) -> TrainingConfig:
    """The whole schedule in so many steps."""
    share = steps / training.steps
    return replace(
        training,
        steps=steps,
        warmup=max(1, round(share * training.warmup)),
        rest=round(share * training.rest),
        validate_every=max(1, steps // 5),
    )


def recipe(spectrum: int, image: int, align: int) -> Recipe:
    """`small` in fewer steps."""
    made = small()
    dino: Any = made.objective
    warmup = max(1, round(dino.warmup * image / made.pretrain_image.steps))
    return replace(
        made,
        pretrain_spectrum=shorter(made.pretrain_spectrum, spectrum),
        pretrain_image=shorter(made.pretrain_image, image),
        align=shorter(made.align, align),
        objective=replace(dino, warmup=warmup),
    )


def paces(store: SurveyStore, made: Recipe, out: Path) -> dict[str, dict[str, float]]:
    """Seconds of a step of both pretrainings, reading or not."""
    place = resolve_device()
    spectrum, image = made.pretrain_spectrum, made.pretrain_image
    trunk = pretraining_trunk(made.image.trunk)
    dino, groups, after = image_objective(made.objective, trunk, image.steps, store)
    rows, take = store.rows("encoder-train"), partial(store.take, fields=("spectra",))

    def spectra(step: int) -> Iterator[Any]:
        return read_ahead(loader(take, BatchOrder(rows, **spectrum.order(step)), workers=0))

    masked = MaskedModel(made.spectrum.trunk, made.masking)
    return {
        "spectrum": pace(
            partial(train, masked, lambda m, batch: m.loss(batch["spectra"])),
            spectra,
            spectrum,
            out / "spectrum",
        ),
        "image": pace(
            partial(train, dino, lambda m, flux: m.loss(flux), groups=groups),
            flux_batches(store, image, place),
            image,
            out / "image",
            after,
        ),
    }


def pace(
    run: Callable[..., Any],
    batches: Callable[[int], Iterator[Any]],
    training: TrainingConfig,
    out: Path,
    after: Callable[[Any], None] | None = None,
) -> dict[str, float]:
    """Median seconds of a step; the loop waits for the GPU in each."""
    found = {}
    again = next(batches(0))
    for name, source in {"reading": batches, "one batch": lambda step: repeat(again)}.items():
        times: list[float] = []

        def note(model: Any, times: list[float] = times) -> None:
            if after:
                after(model)
            times.append(time.perf_counter())

        folder = RunFolder(out / name, {})
        run(source, replace(training, steps=TIMED), folder, after_step=note)
        found[name] = float(np.median(np.diff(times[WARM:])))
    return found


def scores(store: SurveyStore, folder: Path) -> dict[str, Any]:
    """Probes and retrieval of the test part."""
    labels = {part: store.columns(list(LABELS), part) for part in pipeline.PARTS}
    seen = {
        modality: {part: Embeddings.read(folder / f"{part}-{modality}.parquet") for part in labels}
        for modality in ("image", "spectrum")
    }
    found: dict[str, Any] = {m: probed(labels, e) for m, e in seen.items()}
    image, spectrum = (made["test"].vectors for made in seen.values())
    searches = rank(Matches("small", image, spectrum, 0), {})
    found["retrieval"] = {
        search.modality: {f"top-{k}": recall_at_k(search.values["partner"], k) for k in (1, 10)}
        for search in searches
    }
    z = np.ravel(seen["spectrum"]["test"].columns["spectrum_redshift"])
    true = labels["test"]["redshift_catalogue"]
    found["dictionary"] = {"within .003": fraction_within(z, true, 0.003), "NMAD": nmad(z, true)}
    return found


def probed(labels: dict[str, Any], seen: dict[str, Embeddings]) -> dict[str, Any]:
    """R² of each property by neighbours and by an MLP, balanced accuracy of the morphology."""
    x = {part: np.hstack([e.vectors, e.coordinates]) for part, e in seen.items()}
    y = {part: np.stack([c[n] for n in LABELS[:-1]], axis=1) for part, c in labels.items()}
    parts = [sides[part] for part in ("head-train", "validation") for sides in (x, y)]
    made = {
        name: probe.fit(*parts).predict(x["test"])
        for name, probe in {"k-NN": KNNProbe, "MLP": MLPProbe}.items()
    }
    found: dict[str, Any] = {
        name: {p: r2(values[:, i], y["test"][:, i]) for i, p in enumerate(PROPERTIES)}
        for name, values in made.items()
    }
    kinds = {part: c[LABELS[-1]] for part, c in labels.items()}
    known = (x["head-train"], kinds["head-train"], x["validation"], kinds["validation"])
    told = MLPProbe.fit(*known).predict(x["test"])
    found["morphology"] = balanced_accuracy(told, kinds["test"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    for name, number in (
        ("galaxies", 50_000),
        ("spectrum", 2000),
        ("image", 2000),
        ("align", 1500),
    ):
        parser.add_argument(f"--{name}", type=int, default=number)
    asked = parser.parse_args()
    made, out, survey = recipe(asked.spectrum, asked.image, asked.align), asked.out, asked.out / "s"
    results: dict[str, Any] = {"device": device_name(), "recipe": asdict(made)}
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = work()
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        return value

    runs = {stage: out / stage for stage in ("spectrum", "image", "align", "embeddings")}
    simulate = partial(pipeline.simulate, asked.galaxies, survey, seed=SEED, size=SIZE)
    store = timed("simulate", simulate)
    results["seconds of a step"] = timed("pace", lambda: paces(store, made, out / "pace"))
    print(results["seconds of a step"], flush=True)
    timed("spectrum", lambda: pipeline.pretrain_spectrum(survey, runs["spectrum"], made))
    timed("image", lambda: pipeline.pretrain_image(survey, runs["image"], made))
    align = partial(pipeline.align, image_run=runs["image"])
    timed("align", lambda: align(survey, runs["spectrum"], runs["align"], made))
    timed("embed", lambda: pipeline.embed(survey, runs["align"], runs["embeddings"]))
    results["scores"] = timed("scores", lambda: scores(store, runs["embeddings"]))
    print(results["scores"], flush=True)
    if torch.cuda.is_available():
        results["GPU memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    print(write_result("small", results | {"seconds": seconds}))
    for name in ("spectrum", "image", "align"):
        shutil.copy(runs[name] / "metrics.jsonl", out / f"{name}.jsonl")


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    main()
