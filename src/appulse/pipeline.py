"""The whole path, one function per stage: the page to read first.

    simulate                    a survey store; observations.py makes one of real galaxies
    pretrain_spectrum           a spectrum transformer and a shift dictionary
    pretrain_image              an image transformer
    align                       both towers in one space
    embed                       vectors of galaxies that no tower was trained on
    posteriors.py               redshift, mass, age … with their uncertainties; spectra made up
    evaluate                    report.html: evaluation.py; queries.py asks the model about files

Every stage can be interrupted and run again: it goes on where it stopped. Those that train run on
several processes where torchrun starts them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from . import evaluation, posteriors
from .align.load import load
from .align.pairs import cache_pairs, pair_batches, pair_loss, retrieval, take_pairs, unaligned
from .align.towers import pretraining_trunk, surveys_of
from .counts import at_least_one
from .device import Precision, resolve_device
from .digest import digest
from .evaluate.results import Result
from .evaluate.sample import PARTS
from .image.objective import flux_batches, image_objective
from .locks import hold
from .progress import track
from .queries import index
from .recipes import Recipe, tiny
from .spectrum.causal import CausalModel
from .spectrum.masked import MaskedModel
from .spectrum.rest import learn_measures
from .survey.batches import BatchOrder, read_ahead
from .survey.store import SurveyStore
from .survey.survey import PROPERTIES, label_columns
from .survey.synthetic.block import number_of
from .survey.synthetic.simulate import check_arguments, simulate_blocks
from .survey.synthetic.targets import SurveyPopulation
from .tasks import embed as tasks
from .training.distribution import by_first_rank, join_ranks
from .training.loop import train
from .training.run import RunFolder


def simulate(
    n: int,
    out: Path,
    *,
    seed: int = 0,
    size: int = 96,
    processes: int | None = None,
    population: SurveyPopulation = "bgs",
) -> SurveyStore:
    """Simulates `n` galaxies into a store, or goes on with the one that is there."""
    check_arguments(n, seed, size, 0, processes, population)
    if not out.exists():
        SurveyStore.create(out, simulate_blocks(1, seed, size, 1, population=population))
    store = SurveyStore.open(out)
    done = 0
    if len(store):
        last = str(store.take([len(store) - 1], ["targetid"])["targetid"][0])
        done = number_of(last, seed, population) + 1
    if done < n:
        blocks = simulate_blocks(n - done, seed, size, processes, done, population)
        store.append(track(blocks, "simulate", n, done))
    return store


def pretrain_spectrum(
    survey: Path, out: Path, recipe: Recipe | None = None, *, device: str = "auto"
) -> None:
    """Trains the spectrum transformer, masked or causal; learns what its head reads beside."""
    join_ranks()
    recipe, store = recipe or tiny(), SurveyStore.open(survey)
    training, tower = recipe.pretrain_spectrum, recipe.spectrum
    run = RunFolder(
        out,
        {
            "stage": "pretrain spectrum",
            "survey": store.identity,
            "spectrum": asdict(tower.trunk),
            "dictionary": tower.dictionary and asdict(tower.dictionary),
            "rest": tower.rest and asdict(tower.rest),
            "masking": asdict(recipe.masking),
            "training": asdict(training),
        },
    )
    measures = (tower.dictionary, tower.rest)
    by_first_rank(partial(learn_measures, store, *measures, run.path))
    torch.manual_seed(training.seed)
    trunk = tower.trunk
    model = CausalModel(trunk) if trunk.causal else MaskedModel(trunk, recipe.masking)
    rows, take = store.rows("encoder-train"), partial(store.take, fields=("spectra",))
    held_out = store.take(store.rows("validation")[:512], ["spectra"])["spectra"]
    train(
        model,
        lambda model, batch: model.loss(batch["spectra"]),
        lambda step: read_ahead(take, BatchOrder(rows, **training.order(step))),
        training,
        run,
        validate=lambda model: model.validate(held_out),
        device=device,
        title="pretrain spectrum",
    )


def pretrain_image(
    survey: Path, out: Path, recipe: Recipe | None = None, *, device: str = "auto"
) -> None:
    """Trains the image transformer by self-distillation, or by contrast of views."""
    join_ranks()
    recipe, store = recipe or tiny(), SurveyStore.open(survey)
    training, trunk = recipe.pretrain_image, pretraining_trunk(recipe.image.trunk)
    torch.manual_seed(training.seed)
    model, groups, after = image_objective(recipe.objective, trunk, training.steps, store)
    run = RunFolder(
        out,
        {
            "stage": "pretrain image",
            "survey": store.identity,
            "image": asdict(trunk),
            "objective": asdict(recipe.objective),
            "training": asdict(training),
        },
    )
    held_out = store.take(store.rows("validation")[:256], ["images"])["images"]
    train(
        model,
        lambda model, flux: model.loss(flux),
        flux_batches(store, training, resolve_device(device)),
        training,
        run,
        validate=lambda model: model.validate(held_out),
        groups=groups,
        after_step=after,
        device=device,
        title="pretrain image",
    )


def align(
    survey: Path,
    spectrum_run: Path,
    out: Path,
    recipe: Recipe | None = None,
    *,
    image_run: Path | None = None,
    device: str = "auto",
) -> None:
    """Aligns an image tower with the pretrained spectrum tower; `recipe.learning` says what learns.

    The image tower's trunk starts from `image_run`, or at random.

    Raises:
        ValueError: If the image trunk neither learns nor comes from a run.
    """
    join_ranks()
    recipe, store = recipe or tiny(), SurveyStore.open(survey)
    training, place = recipe.align, resolve_device(device)
    model = unaligned(recipe.model, recipe.learning, training.seed, spectrum_run, image_run)
    run = RunFolder(
        out,
        {
            "stage": "align",
            "survey": store.identity,
            "trained_on": sorted({*model.trained_on, *surveys_of(store.identity)}),
            "spectrum": digest(model.spectrum.pretrained()),
            "image": image_run and digest(model.image.trunk.state_dict()),
            "model": asdict(recipe.model),
            "learning": asdict(recipe.learning),
            "training": asdict(training),
        },
    )
    if not run.finished:
        pairs, others = (
            cache_pairs(out / "cache" / part, model, store, part, device, training.precision)
            for part in ("encoder-train", "validation")
        )
        everything = pairs.take(slice(None), ["image.features", "spectrum.features"])
        model.standardise(everything["image.features"], everything["spectrum.features"])
        held_out = take_pairs(others, slice(1000), place)
        train(
            model,
            pair_loss,
            pair_batches(pairs, training, place),
            training,
            run,
            validate=lambda model: retrieval(model, held_out),
            device=device,
            title="align",
        )
    by_first_rank(lambda: shutil.rmtree(out / "cache", ignore_errors=True))


def embed(
    survey: Path,
    model_run: str | Path,
    out: Path,
    *,
    device: str = "auto",
    precision: Precision = "auto",
) -> None:
    """Embeds the parts that no tower was trained on, image and spectrum, and indexes the test's.

    Files that this model made of these galaxies already are kept.

    Raises:
        ValueError: If a part is empty, or another process is at work in `out`.
    """
    model, store = load(model_run), SurveyStore.open(survey)
    ids = {part: store.columns(["targetid"], part)["targetid"] for part in PARTS}
    empty = [part for part in PARTS if not len(ids[part])]
    if empty:
        raise ValueError(
            f"no galaxy of {len(store)} in {survey} is in {', '.join(empty)}; add galaxies"
        )
    _lock = hold(out)
    for part in PARTS:
        paths = _embeddings(out, part)
        if not all(tasks.is_current(path, model, ids[part]) for path in paths):
            made = tasks.embed_survey(model, store, part, device=device, precision=precision)
            for path, embeddings in zip(paths, made, strict=True):
                embeddings.write(path)
    index(_embeddings(out, "test"), out / "test.lance")


def _embeddings(folder: Path, part: str) -> list[Path]:
    return [folder / f"{part}-{modality}.parquet" for modality in ("image", "spectrum")]


def evaluate(
    run: str | Path,
    survey: Path,
    out: Path,
    *,
    runs: Mapping[str, Path] | None = None,
    quick: bool = False,
    seeds: int = 3,
    device: str = "auto",
    processes: int = 1,
) -> list[Result]:
    """Scores a model beside every baseline on the survey's test part: see `evaluation.evaluate`.

    Embeddings, and posteriors of whatever properties have labels, are made in `out` first.
    """
    embeddings = out / "embeddings"
    at_least_one(seeds, "seeds")
    at_least_one(processes, "processes")
    embed(survey, run, embeddings, device=device)
    fitted, more = [], []
    if set(PROPERTIES) & set(label_columns(SurveyStore.open(survey).names)):
        for seed in range(1 if quick else seeds):
            fitted.append(out / f"posterior-{seed}")
            config = replace(tiny().posterior, seed=seed)
            posteriors.posterior(survey, embeddings, fitted[-1], config, device=device)
        more = posteriors.pictures(survey, embeddings, fitted[0], device=device)
    return evaluation.evaluate(
        *(run, survey, embeddings, out),
        posteriors=fitted,
        runs=runs,
        more=more,
        quick=quick,
        seeds=seeds,
        device=device,
        processes=processes,
    )


def demo(out: Path, *, n: int = 16_000, seed: int = 0, device: str = "auto") -> Path:
    """Everything, from nothing to a report, with the recipe `tiny`."""
    survey, spectrum_run, run = out / "survey.lance", out / "spectrum", out / "align"
    simulate(n, survey, seed=seed)
    pretrain_spectrum(survey, spectrum_run, device=device)
    align(survey, spectrum_run, run, device=device)
    embeddings, posterior, generator = out / "embeddings", out / "posterior", out / "generator"
    embed(survey, run, embeddings, device=device)
    posteriors.posterior(survey, embeddings, posterior, tiny().posterior, device=device)
    posteriors.generator(survey, embeddings, generator, tiny().generator, device=device)
    evaluation.evaluate(
        *(run, survey, embeddings, out),
        runs={"masked modelling": spectrum_run, "alignment": run},
        more=posteriors.pictures(survey, embeddings, posterior, generator, device=device),
        quick=True,
        seeds=1,
        device=device,
    )
    return out / "report.html"
