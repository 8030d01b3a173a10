"""Our towers for benchmarks/features.py: learned on encoder-train, whole and without a stage."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from appulse import pipeline
from appulse.align.model import Model
from appulse.align.pairs import Pairs, Tokens, cache_pairs, pair_loss, retrieval, take_pairs
from appulse.align.towers import ImageTower, ImageTowerConfig, pretraining_trunk
from appulse.digest import digest
from appulse.evaluate.feature_towers import Features, FeatureTowersConfig, fit_feature_towers
from appulse.recipes import Recipe, tiny
from appulse.spectrum.preprocess import BANDS
from appulse.spectrum.preprocess import SOFTENING as DENSITY
from appulse.survey.batches import BatchOrder
from appulse.survey.photometry import SOFTENING as NANOMAGGIES
from appulse.survey.store import SurveyStore
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder

MOST = {"encoder-train": 10**9, "head-train": 10**9, "validation": 1000, "test": 6000}
T = TypeVar("T")
CPU = torch.device("cpu")
AT_ONCE = 512
TOTAL = 6  # index of the 6″ aperture
FLUX = 30.0  # nanomaggies, and 1e-17 erg/s/cm²/Å × 10, that every galaxy gets without brightness
FEATURE_TRAINING = TrainingConfig(
    steps=8000, batch_size=256, fused=True, warmup=60, validate_every=200, patience=16
)
Vectors = dict[str, np.ndarray]  # unit vectors by "modality, part"


def recipe(seed: int) -> Recipe:
    """The demo's recipe."""
    made = tiny()
    return replace(
        made,
        pretrain_spectrum=replace(made.pretrain_spectrum, seed=seed),
        pretrain_image=replace(made.pretrain_image, seed=seed),
        align=replace(made.align, seed=seed),
    )


def longer(training: TrainingConfig) -> TrainingConfig:
    """For six times the demo's pairs."""
    return replace(training, steps=3600, batch_size=256)


def same(x: T) -> T:
    """Nothing changed."""
    return x


def without_spectrum_ssl(pairs: Pairs) -> Pairs:
    """Of spectra the band fluxes alone: no dictionary, components or transformer."""
    spectrum: Any = pairs.spectrum
    features = spectrum.features.clone()
    features[:, BANDS:] = 0
    return pairs._replace(spectrum=Tokens(features, torch.zeros_like(spectrum.tokens)))


def without_brightness(pairs: Pairs) -> Pairs:
    """Images of one total flux in r, spectra of one mean flux; noise shows how bright they were."""
    image: Any = pairs.image
    spectrum: Any = pairs.spectrum
    apertures = NANOMAGGIES * image.features.sinh().view(len(image.features), 3, -1)
    scale = FLUX / apertures[:, 1, TOTAL].clamp(min=0.1)
    bands = DENSITY * spectrum.features[:, :BANDS].sinh()
    level = FLUX / 10 / bands.mean(1, keepdim=True).clamp(min=0.01)
    shape = (bands * level / DENSITY).asinh()
    tokens = spectrum.tokens.clone()
    tokens[:, 0] = 0  # the transformer's own of brightness
    return Pairs(
        image._replace(
            flux=image.flux * scale[:, None, None, None],
            features=(apertures * scale[:, None, None] / NANOMAGGIES).asinh().flatten(1),
        ),
        Tokens(torch.cat([shape, spectrum.features[:, BANDS:-1], 0 * level], 1), tokens),
    )


class Variant(NamedTuple):
    """An alignment: how it learns, from which image tower, and what is done to its pairs."""

    schedule: Callable[[TrainingConfig], TrainingConfig] = same
    pretrained: bool = True
    change: Callable[[Pairs], Pairs] = same


VARIANTS = {
    "appulse": Variant(longer),
    "appulse, the demo's steps": Variant(),
    "without image SSL": Variant(pretrained=False),
    "without spectrum SSL": Variant(change=without_spectrum_ssl),
    "without brightness": Variant(change=without_brightness),
}


class Towers:
    """Pretrained towers of one seed, and what they see of every part, computed once."""

    def __init__(self, survey: Path, work: Path, seed: int):
        self.work, self.recipe = work, recipe(seed)
        self.store = SurveyStore.open(survey)
        pipeline.pretrain_spectrum(survey, work / "spectrum", self.recipe, device="cpu")
        pipeline.pretrain_image(survey, work / "image", self.recipe, device="cpu")
        model = self.model()
        self.pairs = {
            part: cache_pairs(work / "pairs" / part, model, self.store, part, "cpu", "auto")
            for part in MOST
        }

    def model(self, pretrained: bool = True) -> Model:
        """Before alignment."""
        torch.manual_seed(self.recipe.align.seed)
        model = Model(self.recipe.model)
        model.spectrum.load_pretrained(self.work / "spectrum")
        if pretrained:
            model.image.load_pretrained(self.work / "image")
        self.recipe.learning.apply(model)
        return model

    def take(self, part: str, rows: np.ndarray | slice) -> Pairs:
        """Some pairs of a part."""
        return take_pairs(self.pairs[part], rows, CPU)

    def features(self, part: str, change: Callable[[Pairs], Pairs] = same) -> Features:
        """What both heads read beside tokens."""
        seen = [[side.features for side in change(pairs)] for pairs in self._batches(part)]
        return Features(*(torch.cat(side).numpy() for side in zip(*seen, strict=True)))

    def _batches(self, part: str) -> Iterator[Pairs]:
        rows = min(len(self.pairs[part]), MOST[part])
        for start in range(0, rows, AT_ONCE):
            yield self.take(part, slice(start, min(start + AT_ONCE, rows)))

    def aligned(self, name: str) -> Vectors:
        """Unit vectors of the three last parts, after alignment of a variant."""
        schedule, pretrained, change = VARIANTS[name]
        model = self.model(pretrained)
        features = self.features("encoder-train", change)
        model.standardise(*map(torch.from_numpy, features))
        training = schedule(self.recipe.align)
        config = {"variant": name, "training": asdict(training)}
        config["start"] = digest(model.state_dict())
        held_out = change(self.take("validation", slice(1000)))
        model = train(
            model,
            lambda model, pairs: pair_loss(model, change(pairs)),
            partial(self._shuffled, training),
            training,
            RunFolder(self.work / "runs" / name, config),
            validate=lambda model: retrieval(model, held_out),
            device="cpu",
            title=name,
        ).eval()
        return self._embed(model, change)

    def _shuffled(self, training: TrainingConfig, step: int) -> Iterator[Pairs]:
        rows = np.arange(len(self.pairs["encoder-train"]))
        order = BatchOrder(rows, **training.order(step))
        return (self.take("encoder-train", batch) for batch in order)

    @torch.inference_mode()
    def _embed(self, model: Model, change: Callable[[Pairs], Pairs]) -> Vectors:
        made: dict[str, list[Tensor]] = {}
        expected: Any = model.expectation
        for part in list(MOST)[1:]:
            for pairs in map(change, self._batches(part)):
                sides = model.image(pairs.image), model.spectrum.head(*pairs.spectrum)
                for modality, vectors in zip(("image", "spectrum"), sides, strict=True):
                    made.setdefault(f"{modality}, {part}", []).append(F.normalize(vectors))
                made.setdefault(f"expected, {part}", []).append(expected(sides[0]))
        return {name: torch.cat(parts).numpy() for name, parts in made.items()}

    @torch.inference_mode()
    def image_alone(self, pretrained: bool) -> Vectors:
        """Class tokens of the image transformer, pretrained or with random weights."""
        torch.manual_seed(self.recipe.align.seed)
        tower = ImageTower(ImageTowerConfig(pretraining_trunk(self.recipe.image.trunk), None))
        if pretrained:
            tower.load_pretrained(self.work / "image")
        tower.eval()
        return {
            f"image, {part}": torch.cat([tower(p.image) for p in self._batches(part)]).numpy()
            for part in list(MOST)[1:]
        }

    def spectrum_alone(self) -> Vectors:
        """What the spectrum tower measures without labels: redshift, brightness, looks at rest."""
        tower = self.model().spectrum
        return {
            f"spectrum, {part}": tower.coordinates(
                torch.from_numpy(self.features(part).spectrum)
            ).numpy()
            for part in list(MOST)[1:]
        }

    def transformer_alone(self) -> Vectors:
        """Mean over the tokens of the masked spectrum transformer."""
        vectors = {}
        for part in list(MOST)[1:]:
            seen: list[Any] = [pairs.spectrum for pairs in self._batches(part)]
            vectors[f"spectrum, {part}"] = torch.cat([s.tokens.mean(1) for s in seen]).numpy()
        return vectors

    def redshifts(self) -> np.ndarray:
        """Of the test's spectra, by the dictionary."""
        features = torch.from_numpy(self.features("test").spectrum)
        return self.model().spectrum.redshift(features)[:, 0].numpy()

    def feature_towers(self, change: Callable[[Pairs], Pairs]) -> Vectors:
        """Vectors of two MLPs on what our heads read beside tokens."""
        seen = {part: self.features(part, change) for part in MOST}
        training = replace(FEATURE_TRAINING, seed=self.recipe.align.seed)
        towers = fit_feature_towers(
            seen["encoder-train"],
            seen["validation"],
            self.work / "runs" / f"MLP towers, {change.__name__}",
            FeatureTowersConfig(training),
            device="cpu",
        )
        made = {}
        for part in list(MOST)[1:]:
            made[f"image, {part}"] = towers.image_vectors(seen[part].image)
            made[f"spectrum, {part}"] = towers.spectrum_vectors(seen[part].spectrum)
        return made
