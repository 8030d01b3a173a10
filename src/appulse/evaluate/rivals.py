"""Baselines that take training: networks from pixels to labels, MoCo v2, feature towers.

Whether they have converged: benchmarks/convergence.py, at the sizes of its survey.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ..align.model import Model, ModelConfig
from ..align.towers import SpectrumTower
from ..digest import digest
from ..image.preprocess import to_nanomaggies
from ..survey.resample import fit
from ..tasks import embed
from ..training.loop import TrainingConfig
from ..training.run import load_weights, read_config
from .comparison import probed
from .feature_towers import Features, FeatureTowersConfig, fit_feature_towers, measure_features
from .measured import BATCH
from .moco import MocoConfig, train_moco
from .protocol import Predictions, fit_predict
from .resnet import ResNetConfig
from .results import Modality
from .retrieval import Matches, rank
from .rows import Method
from .sample import PARTS
from .study import Study, fewer
from .supervised import SupervisedConfig, SupervisedLearner, conv_att, read_pixels, resnet

MOCO = TrainingConfig(steps=2000, batch_size=128, learning_rate=2e-3, weight_decay=0.05, warmup=200)
MOCO_WIDTH = 32  # of its network
MOCO_SIZE, MOCO_GALAXIES = 96, 10_000  # pixels of what views are made of; galaxies kept in memory
FEATURE_GALAXIES = 20_000  # that feature towers are trained on

Pixels = dict[str, Shaped[np.ndarray, "_ *_"]]


def rivals(study: Study, model: Model, runs: Mapping[str, Path]) -> list[Method]:
    """All of them, about the longest first.

    Args:
        study: The galaxies.
        model: Ours; feature towers see what its spectrum tower reads beside the patches.
        runs: Training runs; pretrained towers among them are scored without alignment.
    """
    methods = [_moco(study), *_supervised(study), _feature_towers(study, model)]
    for title, run in runs.items():
        methods += _unaligned(study, title, run)
    return methods


def _supervised(study: Study) -> list[Method]:
    """ResNet on images, Conv+Att on spectra; the morphology from images and all labels only."""
    kinds: dict[str, tuple[Modality, Callable[[int, int], SupervisedConfig]]] = {
        "ResNet": ("image", resnet),
        "Conv+Att": ("spectrum", conv_att),
    }
    methods, every = [], len(study.labelled)
    for name, (modality, config) in kinds.items():
        pixels = lru_cache(partial(_pixels, study, config(every, 0)))
        for count, seeds in study.training_sizes:
            sized = partial(config, count or every)
            run = partial(_learn, study, name, modality, sized, pixels, count)
            settings = {**asdict(sized(0)), "labels": count}
            methods.append(Method(f"{name} {count or 'all'}", run, settings, seeds))
    return methods


def _pixels(study: Study, config: SupervisedConfig) -> Pixels:
    store, sample = study.sample.store, study.sample
    return {part: read_pixels(store, sample.rows(part), config) for part in PARTS}


def _learn(
    study: Study,
    name: str,
    modality: Modality,
    config: Callable[[int], SupervisedConfig],
    pixels: Callable[[], Pixels],
    count: int | None,
    seed: int,
) -> list[Predictions]:
    some = study.chosen(count, seed)
    x, y = fewer(pixels(), some), fewer(study.labels, some)
    classes = modality == "image" and count is None
    with study.scratch(f"{name}-{count or 'all'}-{seed}") as folder:
        learner = SupervisedLearner(config(seed), folder, study.device)
        told = partial(fit_predict, name, modality, learner, x, y, morphology=classes)
        return [told(baseline=True, seed=seed)]


def _moco(study: Study) -> Method:
    config = MocoConfig(MOCO, ResNetConfig(MOCO_WIDTH))
    return Method("MoCo v2", partial(_moco_probes, study, config), asdict(config), study.seeds)


def _moco_probes(study: Study, config: MocoConfig, seed: int) -> list[Predictions]:
    start = time.process_time()
    rows = study.sample.rows("encoder-train")[:MOCO_GALAXIES]
    config = replace(config, training=replace(config.training, seed=seed))
    with study.scratch(f"moco-{seed}") as folder:
        moco = train_moco(_cutouts(study, rows), config, folder, device=study.device)
    vectors = {part: moco.embed(_cutouts(study, study.sample.rows(part))) for part in PARTS}
    seconds = time.process_time() - start
    return _all_probes(study, "MoCo v2", "image", vectors, seed, seconds)


def _cutouts(study: Study, rows: np.ndarray) -> Shaped[np.ndarray, "B 3 y x"]:
    """Nanomaggies in half precision."""
    some = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
    images = (study.sample.store.take(r, ["images"])["images"] for r in some)
    cut = (fit(to_nanomaggies(b), MOCO_SIZE) for b in images)
    return np.concatenate([b.filled().astype(np.float16) for b in cut])


def _all_probes(
    study: Study,
    name: str,
    modality: Modality,
    vectors: Mapping[str, np.ndarray],
    seed: int,
    seconds: float,
) -> list[Predictions]:
    """k-NN, a ridge and an MLP from all labels, on vectors that a seed made."""
    once = replace(study, counts=())
    methods = probed(once, name, modality, lambda: vectors, {}, baseline=True)
    made = [p for method in methods for p in method.run(seed)]
    return [replace(p, seed=seed, seconds=seconds + (p.seconds or 0)) for p in made]


def _feature_towers(study: Study, model: Model) -> Method:
    tower = model.spectrum if model.spectrum.dictionary is not None else None
    settings = {**asdict(FeatureTowersConfig()), "model": study.model_hash}
    features = lru_cache(partial(_measure_features, study, tower))
    run = partial(_feature_matches, study, features)
    return Method("feature towers", run, settings, study.seeds)


def _measure_features(study: Study, tower: SpectrumTower | None) -> dict[str, Features]:
    found = {}
    for part in ("encoder-train", "validation", "test"):
        rows = study.sample.rows(part)[:FEATURE_GALAXIES]
        some = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
        parts = [measure_features(study.sample.store.read(r), tower) for r in some]
        found[part] = Features(*(np.concatenate(side) for side in zip(*parts, strict=True)))
    return found


def _feature_matches(
    study: Study, features: Callable[[], dict[str, Features]], seed: int
) -> list[Predictions]:
    seen, config = features(), FeatureTowersConfig()
    config = replace(config, training=replace(config.training, seed=seed))
    with study.scratch(f"feature-towers-{seed}") as folder:
        towers = fit_feature_towers(
            seen["encoder-train"], seen["validation"], folder, config, device=study.device
        )
    matches = Matches(
        "feature towers",
        towers.image_vectors(seen["test"].image),
        towers.spectrum_vectors(seen["test"].spectrum),
        n_train=len(seen["encoder-train"].image),
        baseline=True,
        seed=seed,
    )
    return rank(matches, study.labels["test"])


def _unaligned(study: Study, title: str, run: Path) -> list[Method]:
    """Probes of a tower as its pretraining left it; none for runs of other stages."""
    stages: dict[str, Modality] = {"pretrain image": "image", "pretrain spectrum": "spectrum"}
    modality = stages.get(read_config(run).get("stage", ""))
    if modality is None:
        return []
    name, once = f"{title} encoder, unaligned", replace(study, counts=())
    vectors = lru_cache(partial(_pretrained_vectors, study, run))
    settings = {"weights": digest(load_weights(run))}
    return probed(once, name, modality, vectors, settings, baseline=True)


def _pretrained_vectors(study: Study, run: Path) -> dict[str, np.ndarray]:
    config, device = read_config(run), study.device
    image = config["stage"] == "pretrain image"
    field = "images" if image else "spectra"
    model = pretrained_tower(run)

    def read(part: str) -> np.ndarray:
        rows = study.sample.rows(part)
        some = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
        batches = (study.sample.store.take(r, [field])[field] for r in some)
        make = embed.embed_images if image else embed.embed_spectra
        return make(model, batches, device=device).vectors

    return {part: read(part) for part in PARTS}


def pretrained_tower(run: Path) -> Model:
    """A tower as its pretraining left it: the class token, or the mean over a spectrum's tokens."""
    config = read_config(run)
    image, spectrum = None, None
    if config["stage"] == "pretrain image":
        image = {"trunk": config["image"], "head": None}
    else:
        measures = {name: config[name] for name in ("dictionary", "rest")}
        spectrum = {"trunk": config["spectrum"], "head": None, **measures}
    settings = {"image": image, "spectrum": spectrum, "inverse_temperature": 1.0}
    model = Model(ModelConfig.from_json(settings), config["survey"]["surveys"])
    (model.spectrum if image is None else model.image).load_pretrained(run)
    return model.eval()
