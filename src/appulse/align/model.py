"""Both towers in one space: the model that people load and embed with.

Shapes: B galaxies, H heads, N patches, D embedding; i and j are rows and columns of patches.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from dacite import Config, DaciteError, from_dict
from jaxtyping import Float
from torch import Tensor, nn

from ..device import Precision, autocast, fast_products, resolve_device
from ..digest import digest
from ..image import preprocess as image_preprocess
from ..spectrum import preprocess as spectrum_preprocess
from ..survey.images import Images
from ..survey.rows import require_finite
from ..survey.spectra import Spectra
from ..survey.structure import SETTINGS, structure_of
from .expectation import Expectation
from .head import AttentionPool, Head, HeadConfig
from .towers import ImageTower, ImageTowerConfig, SpectrumTower, SpectrumTowerConfig


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the towers, of which one may be missing, and where the temperature starts."""

    image: ImageTowerConfig | None
    spectrum: SpectrumTowerConfig | None
    inverse_temperature: float = 15.5

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "ModelConfig":
        """The inverse of `dataclasses.asdict`.

        Raises:
            ValueError: If a setting is missing, unknown or of another type.
        """
        try:
            return from_dict(cls, config, Config(strict=True))
        except DaciteError as error:
            raise ValueError(f"not the configuration of a model: {error}") from error


class SpectrumAttention(NamedTuple):
    """Where a spectrum tower's pooling looks; what is left to 1 went to the brightness token."""

    weights: Float[np.ndarray, "B H N"]
    wavelength: Float[np.ndarray, "B N"]  # Å, centre of each patch


class Description(NamedTuple):
    """What a model says of galaxies seen one way."""

    vectors: Float[np.ndarray, "B D"]  # unit vectors in the shared space
    coordinates: Float[np.ndarray, "B K"]  # see `Model.coordinates`; K is 0 if it measures none
    redshift: Float[np.ndarray, "B Z"]  # of spectra, by the dictionary; Z is 0 if there is none
    structure: Float[np.ndarray, "B S"]  # of images, see `survey.structure`; else S is 0

    @property
    def evidence(self) -> Float[np.ndarray, "B E"]:
        """All but the structure side by side: what a posterior of galaxies takes."""
        return np.hstack([self.vectors, self.coordinates, self.redshift])


class Model(nn.Module):
    """An image tower and a spectrum tower whose embeddings of one galaxy are close, or one alone.

    Attributes:
        trained_on: Names of the surveys that a loaded model has seen, such as "synthetic".
    """

    def __init__(self, config: ModelConfig, trained_on: Sequence[str] = ()):
        super().__init__()
        self.trained_on = tuple(trained_on)
        self.config = config
        self.towers = nn.ModuleDict()
        if config.image is not None:
            self.towers["image"] = ImageTower(config.image)
        if config.spectrum is not None:
            self.towers["spectrum"] = SpectrumTower(config.spectrum)
        self.expectation = _expectation(config)
        start = math.log(config.inverse_temperature)
        self.log_inverse_temperature = nn.Parameter(torch.tensor([start]))  # shards need an axis

    @property
    def image(self) -> ImageTower:
        """The image tower; ValueError if there is none."""
        return cast(ImageTower, self._tower("image"))

    @property
    def spectrum(self) -> SpectrumTower:
        """The spectrum tower; ValueError if there is none."""
        return cast(SpectrumTower, self._tower("spectrum"))

    def _tower(self, name: str) -> nn.Module:
        if name not in self.towers:
            raise ValueError(f"this model has no {name} tower; it has {' and '.join(self.towers)}")
        return self.towers[name]

    @property
    def simulations_only(self) -> bool:
        """Whether no real galaxy was in training; what it says of one is then unproven."""
        return self.trained_on == ("synthetic",)

    @property
    def inverse_temperature(self) -> Float[Tensor, ""]:
        """Multiplies the cosines in the loss; learned, from its logarithm (Radford et al. 2021)."""
        return self.log_inverse_temperature.exp()[0]

    def embed_images(
        self, images: Images | np.ndarray, *, device: str = "auto", precision: Precision = "float32"
    ) -> Float[np.ndarray, "B D"]:
        """Unit vectors of cutouts: `Images`, or arrays (B, 3, y, x) in nanomaggies at 0.262″."""
        return self.describe(_as_images(images), device=device, precision=precision).vectors

    def embed_spectra(
        self,
        spectra: Spectra | np.ndarray,
        *,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> Float[np.ndarray, "B D"]:
        """Unit vectors of spectra: `Spectra`, or arrays (B, 7781) on the DESI grid.

        Raises:
            ValueError: Naming rows of which the model sees nothing.
        """
        spectra = _as_spectra(spectra)
        vectors = self.describe(spectra, device=device, precision=precision).vectors
        require_finite(spectra.ids, vectors, "have no good pixels where the model looks")
        return vectors

    def redshift(self, spectra: Spectra | np.ndarray) -> Float[np.ndarray, "B"]:
        """Redshifts by the shift dictionary: a coordinate that the shared space blurs.

        Raises:
            ValueError: If the model has no dictionary, as AstroCLIP's, or no zero point for it.
        """
        dictionary = self.spectrum.dictionary
        if dictionary is None:
            raise ValueError("this model has no shift dictionary to measure redshifts with")
        if dictionary.zero_point.isnan():
            raise ValueError(
                "its shifts have no zero point, as no redshift was known in pretraining; give "
                "`model.spectrum.dictionary.calibrate` a score of spectra with theirs"
            )
        return dictionary.redshift(_as_spectra(spectra))

    def coordinates(
        self, galaxies: Images | Spectra, *, device: str = "auto"
    ) -> Float[np.ndarray, "B K"]:
        """Looks at rest, brightness and redshift: of spectra as measured, of images as expected.

        Neither needs labels. Distances are those of `RestSpace.coordinates`.

        Raises:
            ValueError: If the model does not measure them, as AstroCLIP's.
        """
        if self.expectation is None:
            raise ValueError("this model measures no coordinates; it has no components at rest")
        return self.describe(galaxies, device=device).coordinates

    def load_pretrained(self, spectrum: Path, image: Path | None = None) -> None:
        """Takes both towers, or the spectrum tower alone, and what they saw, of their runs."""
        surveys = self.spectrum.load_pretrained(spectrum)
        if image is not None:
            surveys += self.image.load_pretrained(image)
        self.trained_on = tuple(sorted(set(surveys)))

    def standardise(self, image: Float[Tensor, "N F"], spectrum: Float[Tensor, "N S"]) -> None:
        """Learns from a training set in which units heads read what enters beside tokens."""
        self.image.standardise(image)
        self.spectrum.standardise(spectrum)
        if self.expectation is not None:
            there = spectrum.to(self.log_inverse_temperature.device)
            self.expectation.standardise(self.spectrum.coordinates(there))

    @torch.inference_mode()
    def attention(
        self, galaxies: Images | Spectra, *, device: str = "auto"
    ) -> Float[np.ndarray, "B H i j"] | SpectrumAttention:
        """Softmax weights with which the pooling reads patches: of images as maps, row 0 on top.

        Raises:
            ValueError: If the tower pools without attention.
        """
        place = resolve_device(device)
        tower: Any = self.image if isinstance(galaxies, Images) else self.spectrum
        if not isinstance(tower.head, Head | AttentionPool):
            raise ValueError("this tower has no head: it pools without attention")
        tower.to(place).eval()
        inputs = _to(tower.prepare(galaxies), place)
        weights = tower.head.attention(inputs.features, tower.tokens(inputs)).cpu().numpy()
        if isinstance(galaxies, Images):
            side = self.image.config.trunk.size // self.image.config.trunk.patch
            return weights[:, :, -(side**2) :].reshape(*weights.shape[:2], side, side)
        patches = self.spectrum.trunk.patches(inputs.flux, inputs.ivar, inputs.wavelength)
        centres = patches.position.exp().cpu().numpy()
        shape = (len(weights), centres.shape[1])
        return SpectrumAttention(weights[:, :, 1:], np.broadcast_to(centres, shape))

    @torch.inference_mode()
    def describe(
        self, galaxies: Images | Spectra, *, device: str = "auto", precision: Precision = "float32"
    ) -> Description:
        """Embeddings, coordinates, redshifts and structure in one go."""
        place = resolve_device(device)
        tower: Any = self.image if isinstance(galaxies, Images) else self.spectrum
        self.to(place).eval()
        parts, size = [], tower.batch_size
        with fast_products(tower):
            for start in range(0, len(galaxies), size):
                inputs = _to(tower.prepare(galaxies[start : start + size]), place)
                with autocast(place, precision):  # the networks alone: what is measured is exact
                    vectors = F.normalize(tower(inputs).float(), dim=1)
                parts.append((vectors, *self._measured(tower, vectors, inputs.features)))
        unit, coordinates, z = (torch.cat(x).cpu().numpy() for x in zip(*parts, strict=True))
        return Description(unit, coordinates, z, structure_of(galaxies))

    def _measured(
        self, tower: ImageTower | SpectrumTower, vectors: Tensor, features: Tensor
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B Z"]]:
        """Coordinates and redshifts."""
        nothing = vectors[:, :0]
        if not isinstance(tower, SpectrumTower):
            return nothing if self.expectation is None else self.expectation(vectors), nothing
        coordinates = nothing if self.expectation is None else tower.coordinates(features)
        return coordinates, tower.redshift(features)

    def hash(self) -> str:
        """Names weights, configuration and preprocessing: what embeddings must agree in."""
        preprocessing = [image_preprocess.SETTINGS, spectrum_preprocess.SETTINGS, SETTINGS]
        settings = [asdict(self.config), *preprocessing]
        text = bytearray(json.dumps(settings, sort_keys=True).encode())
        return digest({"settings": torch.frombuffer(text, dtype=torch.uint8), **self.state_dict()})


def _expectation(config: ModelConfig) -> Expectation | None:
    """Where both towers read features, and the spectrum's measures coordinates."""
    image, spectrum = config.image, config.spectrum
    if image is None or spectrum is None or spectrum.rest is None:
        return None
    if not isinstance(image.head, HeadConfig):
        return None
    return Expectation(image.head.embedding, spectrum.rest.components + 2)


def _as_images(images: Images | np.ndarray) -> Images:
    return images if isinstance(images, Images) else Images.from_arrays(images)


def _as_spectra(spectra: Spectra | np.ndarray) -> Spectra:
    return spectra if isinstance(spectra, Spectra) else Spectra.from_arrays(spectra)


def _to(inputs: Any, place: torch.device) -> Any:
    """Inputs of a tower, on a device."""
    return type(inputs)(*(tensor.to(place) for tensor in inputs))
