"""The whole path, one function per stage: the page to read first.

    simulate, or pair           a survey store
    pretrain_spectrum           a spectrum transformer and a shift dictionary
    align                       both towers in one space
    embed                       vectors of galaxies that no tower was trained on
    evaluate                    report.html

Every stage can be interrupted and run again: it goes on where it stopped.
"""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from .align.model import AlignedModel, load
from .align.pairs import cache_pairs, pair_loss, retrieval, take_pairs
from .device import resolve_device
from .evaluate.comparison import PARTS, compare, learning
from .evaluate.report import provenance, write_report
from .evaluate.results import Result, write_results
from .progress import track
from .recipes import Recipe, tiny
from .search.embeddings import Embeddings
from .search.index import Index
from .spectrum.masked import MaskedModel
from .spectrum.redshift import ShiftDictionary
from .survey.batches import BatchOrder
from .survey.store import SurveyStore
from .survey.synthetic.simulate import simulate_blocks
from .tasks.embed import embed_survey
from .training.loop import train
from .training.run import RunFolder, digest, load_weights, save_tensors

DICTIONARY_SPECTRA = 6000  # more teach the dictionary nothing new
CALIBRATION = 20  # labelled redshifts that set its zero point


def simulate(
    n: int, out: Path, *, seed: int = 0, size: int = 96, processes: int | None = None
) -> SurveyStore:
    """Simulates `n` galaxies into a store, or goes on with the one that is there."""
    if not out.exists():
        SurveyStore.create(out, simulate_blocks(1, seed, size, processes=1))
    store = SurveyStore.open(out)
    last = str(store.take([len(store) - 1], ["targetid"])["targetid"][0])
    kind, _, number = last.rpartition("-")
    if kind != f"synthetic-{seed}":
        raise ValueError(f"{out} holds {last}, not seed {seed}; choose another folder")
    done = int(number) + 1
    if done < n:
        blocks = simulate_blocks(n - done, seed, size, processes, start=done)
        store.append(track(blocks, "simulate", n, done))
    return store


def pretrain_spectrum(
    survey: Path, out: Path, recipe: Recipe | None = None, *, device: str = "auto"
) -> None:
    """Trains the spectrum transformer by masked modelling, and the shift dictionary."""
    recipe, store = recipe or tiny(), SurveyStore.open(survey)
    training = recipe.pretrain_spectrum
    run = RunFolder(
        out,
        {
            "stage": "pretrain spectrum",
            "survey": identity(store),
            "spectrum": asdict(recipe.model.spectrum),
            "dictionary": asdict(recipe.model.dictionary),
            "masking": asdict(recipe.masking),
            "training": asdict(training),
        },
    )
    learn_dictionary(store, recipe, run)
    torch.manual_seed(training.seed)
    model = MaskedModel(recipe.model.spectrum, recipe.masking)
    held_out = store.take(store.rows("validation")[:512], ["spectra"])["spectra"]

    @torch.no_grad()
    def validate(model: MaskedModel) -> dict[str, float]:
        torch.manual_seed(0)
        return {"validation_loss": model.loss(held_out).item()}

    train(
        model,
        lambda model, batch: model.loss(batch["spectra"]),
        lambda step: store.batches(
            "encoder-train",
            training.batch_size,
            fields=("spectra",),
            seed=training.seed,
            start=step,
            epochs=None,
            drop_last=True,
        ),
        training,
        run,
        validate=validate,
        device=device,
        title="pretrain spectrum",
    )


def learn_dictionary(store: SurveyStore, recipe: Recipe, run: RunFolder) -> None:
    """Learns the shift dictionary into the run folder, unless it is there."""
    path = run.path / "dictionary.safetensors"
    if path.exists():
        return
    dictionary = ShiftDictionary(recipe.model.dictionary)
    rows = store.rows("encoder-train")[:DICTIONARY_SPECTRA]
    dictionary.fit(store.take(rows, ["spectra"])["spectra"])
    known = store.rows("head-train", "redshift IS NOT NULL")[:CALIBRATION]
    if len(known):
        labelled = store.take(known, ["spectra", "redshift"])
        dictionary.calibrate(labelled["spectra"], labelled["redshift"])
    save_tensors(path, dictionary.state_dict())


def align(
    survey: Path,
    spectrum_run: Path,
    out: Path,
    recipe: Recipe | None = None,
    *,
    device: str = "auto",
) -> None:
    """Aligns an image tower with the pretrained spectrum tower, whose trunk stays as it is."""
    recipe, store = recipe or tiny(), SurveyStore.open(survey)
    training, place = recipe.align, resolve_device(device)
    torch.manual_seed(training.seed)
    model = AlignedModel(recipe.model)
    load_spectrum(model, spectrum_run)
    run = RunFolder(
        out,
        {
            "stage": "align",
            "survey": identity(store),
            "spectrum_weights": digest(model.spectrum.state_dict()),
            "model": asdict(recipe.model),
            "training": asdict(training),
        },
    )
    if run.finished:
        return
    parts = {
        part: cache_pairs(out / f"cache-{part}", model, store, part, device, training.precision)
        for part in ("encoder-train", "validation")
    }
    pairs = parts["encoder-train"]
    everything = pairs.take(slice(None), ["features", "spectrum_features"])
    model.image.head.standardise(everything["features"])
    model.spectrum.head.standardise(everything["spectrum_features"])
    held_out = take_pairs(parts["validation"], slice(1000), place)
    train(
        model,
        pair_loss,
        lambda step: (
            take_pairs(pairs, rows, place)
            for rows in BatchOrder(
                np.arange(len(pairs)),
                training.batch_size,
                seed=training.seed,
                start=step,
                epochs=None,
                drop_last=True,
            )
        ),
        training,
        run,
        validate=lambda model: retrieval(model, held_out),
        device=device,
        title="align",
    )
    for cache in parts.values():
        cache.delete()


def load_spectrum(model: AlignedModel, spectrum_run: Path) -> None:
    """Gives the model a pretrained spectrum trunk and dictionary, and freezes the trunk."""
    weights = load_weights(spectrum_run)
    trunk = {n.removeprefix("trunk."): w for n, w in weights.items() if n.startswith("trunk.")}
    model.spectrum.trunk.load_state_dict(trunk)
    model.spectrum.dictionary.load_state_dict(load_file(spectrum_run / "dictionary.safetensors"))
    model.spectrum.trunk.requires_grad_(False)


def embed(
    survey: Path, model_run: Path, out: Path, *, device: str = "auto"
) -> dict[str, tuple[Embeddings, Embeddings]]:
    """Embeds the parts that no tower was trained on, image and spectrum, and indexes the test's.

    Files that this model made already are kept.
    """
    model, store = load(model_run), SurveyStore.open(survey)
    embedded = {}
    for part in PARTS:
        paths = [out / f"{part}-{modality}.parquet" for modality in ("image", "spectrum")]
        if all(_made_by(model, path) for path in paths):
            image, spectrum = (Embeddings.read(path) for path in paths)
        else:
            image, spectrum = embed_survey(model, store, part, device=device, precision="auto")
            image.write(paths[0])
            spectrum.write(paths[1])
        embedded[part] = image, spectrum
    image, spectrum = embedded["test"]
    shared = {name: spectrum.columns[name] for name in image.columns}
    index = Index.create(out / "test.lance", image, overwrite=True)
    index.add(replace(spectrum, columns=shared))
    return embedded


def _made_by(model: AlignedModel, path: Path) -> bool:
    return path.exists() and Embeddings.read(path).model_hash == model.hash()


def evaluate(survey: Path, embeddings: Path, runs: dict[str, Path], out: Path) -> list[Result]:
    """Scores embeddings beside every baseline on the test part; writes report.html, results.json.

    Args:
        survey: The store.
        embeddings: Folder that `embed` wrote.
        runs: Training runs by title, for their learning curves.
        out: Folder for the report.
    """
    store = SurveyStore.open(survey)
    embedded = {
        part: (
            Embeddings.read(embeddings / f"{part}-image.parquet"),
            Embeddings.read(embeddings / f"{part}-spectrum.parquet"),
        )
        for part in PARTS
    }
    results, plots = compare(store, embedded)
    plots += [learning(runs)]
    write_results(out / "results.json", results)
    write_report(
        out / "report.html",
        results,
        plots,
        {**provenance(), "survey": f"{survey}, {len(store):,} galaxies"},
        title="appulse: images and spectra in one space",
    )
    return results


def demo(out: Path, *, n: int = 16_000, seed: int = 0, device: str = "auto") -> Path:
    """Everything, from nothing to a report, with the recipe `tiny`."""
    survey, spectrum_run, run = out / "survey.lance", out / "spectrum", out / "align"
    simulate(n, survey, seed=seed)
    pretrain_spectrum(survey, spectrum_run, device=device)
    align(survey, spectrum_run, run, device=device)
    embed(survey, run, out / "embeddings", device=device)
    evaluate(survey, out / "embeddings", {"masked modelling": spectrum_run, "alignment": run}, out)
    return out / "report.html"


def identity(store: SurveyStore) -> dict[str, Any]:
    """Names the galaxies of a store, so that runs on different ones are not mixed."""
    ids = store.columns(["targetid"])["targetid"]
    return {"rows": len(ids), "ids": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]}
