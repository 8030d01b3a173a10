"""Two MLPs on physical features in one space: what contrastive learning reaches without pixels.

Images are told by aperture fluxes, spectra by band fluxes, or by all that one of appulse's towers
reads beside the patches.

Shapes: B galaxies, V for validation, F features of images, S of spectra, D embedding.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..align.towers import SpectrumTower
from ..align.whitening import Whitening
from ..device import resolve_device
from ..digest import digest
from ..image.preprocess import to_nanomaggies
from ..metrics import partner_ranks, recall_at_k
from ..spectrum import preprocess as spectrum_preprocess
from ..survey.batches import BatchOrder
from ..survey.photometry import SOFTENING, aperture_fluxes
from ..survey.survey import Survey
from ..training.contrastive import contrastive_loss
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder
from ..transformer import MLP

POOL = 1000  # pairs to validate on at most


@dataclass(frozen=True)
class FeatureTowersConfig:
    """Sizes and training."""

    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=1500, batch_size=256, fused=True, validate_every=50, patience=12
        )
    )
    width: int = 384
    depth: int = 2
    embedding: int = 64
    inverse_temperature: float = 40.0  # where it starts


class Features(NamedTuple):
    """What the two towers read of the same galaxies; logarithmic, but linear near 0."""

    image: Float[np.ndarray, "B F"]
    spectrum: Float[np.ndarray, "B S"]


class FeatureTowers(nn.Module):
    """Embeddings of features, close together where they are of one galaxy."""

    def __init__(self, config: FeatureTowersConfig, features: Features):
        super().__init__()
        self.image, self.spectrum = (_Tower(config, x) for x in features)
        start = math.log(config.inverse_temperature)
        self.log_inverse_temperature = nn.Parameter(torch.tensor(start))

    def loss(
        self, image: Float[Tensor, "B F"], spectrum: Float[Tensor, "B S"]
    ) -> Float[Tensor, ""]:
        """Symmetric InfoNCE of pairs."""
        temperature = self.log_inverse_temperature.exp()
        return contrastive_loss(self.image(image), self.spectrum(spectrum), temperature)

    @torch.no_grad()
    def validate(
        self, image: Float[Tensor, "B F"], spectrum: Float[Tensor, "B S"]
    ) -> dict[str, float]:
        """The loss, and how often an image finds its spectrum among the first 10 of these."""
        cosine = self.image(image) @ self.spectrum(spectrum).T
        ranks = partner_ranks(cosine.cpu().numpy())
        return {
            "validation_loss": self.loss(image, spectrum).item(),
            "top10": recall_at_k(ranks, 10),
        }

    @torch.inference_mode()
    def image_vectors(self, image: Float[np.ndarray, "B F"]) -> Float[np.ndarray, "B D"]:
        """Unit vectors of images."""
        return self.image.cpu()(_tensor(image)).numpy()

    @torch.inference_mode()
    def spectrum_vectors(self, spectrum: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B D"]:
        """Unit vectors of spectra."""
        return self.spectrum.cpu()(_tensor(spectrum)).numpy()


class _Tower(nn.Module):
    """Features, as our heads read them, through pre-norm residual MLPs to a unit vector."""

    def __init__(self, config: FeatureTowersConfig, features: Float[np.ndarray, "B F"]):
        super().__init__()
        self.whiten = Whitening(features.shape[1])
        self.whiten.learn(_tensor(features))
        self.first = nn.Linear(features.shape[1], config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.depth))
        self.mlps = nn.ModuleList(MLP(config.width) for _ in range(config.depth))
        self.last = nn.Linear(config.width, config.embedding)

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        x = self.first(self.whiten(x))
        for norm, mlp in zip(self.norms, self.mlps, strict=True):
            x = x + mlp(norm(x))
        return F.normalize(self.last(x), dim=1)


def fit_feature_towers(
    features: Features,
    validation: Features,
    out: Path,
    config: FeatureTowersConfig | None = None,
    *,
    device: str = "auto",
) -> FeatureTowers:
    """Trains on pairs, stopped early on validation; goes on in the run folder `out`."""
    config, place = config or FeatureTowersConfig(), resolve_device(device)
    batch_size = min(config.training.batch_size, len(features.image) // 2)
    training = replace(config.training, batch_size=batch_size)
    pairs = [_tensor(x).to(place) for x in features]
    held_out = [_tensor(x[:POOL]).to(place) for x in validation]

    def batches(step: int) -> Iterator[list[Tensor]]:
        for rows in BatchOrder(np.arange(len(pairs[0])), **training.order(step)):
            yield [x[rows] for x in pairs]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        towers = FeatureTowers(config, features)
    data = digest({"image": pairs[0], "spectrum": pairs[1]})
    return train(
        towers,
        lambda towers, batch: towers.loss(*batch),
        batches,
        training,
        RunFolder(out, {"stage": "feature towers", **asdict(config), "data": data}),
        validate=lambda towers: towers.validate(*held_out),
        device=device,
        title="feature towers",
    ).eval()


def measure_features(survey: Survey, tower: SpectrumTower | None = None) -> Features:
    """Aperture fluxes of the images; of the spectra band fluxes, or all that a tower reads."""
    image = np.arcsinh(aperture_fluxes(to_nanomaggies(survey.images)) / SOFTENING)
    spectrum = (
        spectrum_preprocess.band_features(survey.spectra)
        if tower is None
        else tower.prepare(survey.spectra).features.numpy()
    )
    return Features(image.reshape(len(image), -1), spectrum)


def _tensor(x: Float[np.ndarray, "*B F"]) -> Float[Tensor, "*B F"]:
    return torch.from_numpy(x).float()
