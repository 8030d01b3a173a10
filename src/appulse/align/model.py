"""Both towers in one space: the model that people load and embed with.

Shapes: B galaxies, T tokens, E token width, F features, D embedding.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ..device import Precision, autocast, resolve_device
from ..image import preprocess as image_preprocess
from ..image.vit import VisionTransformer, VisionTransformerConfig
from ..spectrum import preprocess as spectrum_preprocess
from ..spectrum.redshift import DICTIONARY, DictionaryConfig, ShiftDictionary
from ..spectrum.transformer import SpectrumTransformer, SpectrumTransformerConfig
from ..survey.images import Images
from ..survey.spectra import Spectra
from ..training.run import digest, load_weights, read_config
from .head import Head, HeadConfig

BATCH = 256


class ImageTower(nn.Module):
    """A vision transformer and its head; aperture fluxes enter beside the patches."""

    def __init__(self, trunk: VisionTransformerConfig, head: HeadConfig):
        super().__init__()
        self.trunk = VisionTransformer(trunk)
        self.head = Head(head, image_preprocess.FEATURES, trunk.width)

    def prepare(self, images: Images) -> image_preprocess.ImageInputs:
        """What `forward` takes."""
        return image_preprocess.prepare(images, self.trunk.config.size)

    def forward(self, inputs: image_preprocess.ImageInputs) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        tokens = self.trunk(inputs.flux, inputs.mask, inputs.pixel_scale)
        return self.head(inputs.features, tokens)


class SpectrumTower(nn.Module):
    """A spectrum transformer, a shift dictionary and the head that reads both."""

    def __init__(
        self, trunk: SpectrumTransformerConfig, dictionary: DictionaryConfig, head: HeadConfig
    ):
        super().__init__()
        self.trunk = SpectrumTransformer(trunk)
        self.dictionary = ShiftDictionary(dictionary)
        features = spectrum_preprocess.BANDS + 1 + dictionary.templates
        self.head = Head(head, features, trunk.width)

    def load_pretrained(self, run: Path) -> None:
        """Takes trunk and dictionary of a spectrum run, and freezes the trunk.

        Raises:
            ValueError: If the folder holds no finished spectrum run of these sizes.
        """
        config = read_config(run)
        if config.get("stage") != "pretrain spectrum":
            raise ValueError(
                f"{run} holds a run of stage {config.get('stage')!r}; expected a pretrained "
                "spectrum tower, made by `appulse pretrain spectrum`"
            )
        sizes = {
            "spectrum": asdict(self.trunk.config),
            "dictionary": asdict(self.dictionary.config),
        }
        if any(config[name] != sizes[name] for name in sizes):
            raise ValueError(f"{run} holds a spectrum tower of other sizes; expected {sizes}")
        weights = load_weights(run)
        trunk = {n.removeprefix("trunk."): w for n, w in weights.items() if n.startswith("trunk.")}
        self.trunk.load_state_dict(trunk)
        self.trunk.requires_grad_(False)
        self.dictionary.load_state_dict(load_file(run / DICTIONARY))

    def pretrained(self) -> dict[str, Tensor]:
        """The tensors that `load_pretrained` fills."""
        parts = {"trunk": self.trunk, "dictionary": self.dictionary}
        return {f"{n}.{k}": t for n, part in parts.items() for k, t in part.state_dict().items()}

    def prepare(self, spectra: Spectra) -> spectrum_preprocess.SpectrumInputs:
        """What `forward` takes."""
        return spectrum_preprocess.prepare(spectra, self.dictionary)

    def tokens(self, inputs: spectrum_preprocess.SpectrumInputs) -> Float[Tensor, "B T E"]:
        """What the trunk sees; a frozen trunk's tokens can be kept."""
        return self.trunk(inputs.flux, inputs.ivar, inputs.wavelength)

    def forward(self, inputs: spectrum_preprocess.SpectrumInputs) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        return self.head(inputs.features, self.tokens(inputs))


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of both towers, and where the temperature starts."""

    image: VisionTransformerConfig
    spectrum: SpectrumTransformerConfig
    dictionary: DictionaryConfig
    head: HeadConfig
    inverse_temperature: float = 15.5

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "ModelConfig":
        """The inverse of `dataclasses.asdict`."""
        return cls(
            VisionTransformerConfig(**config["image"]),
            SpectrumTransformerConfig(**config["spectrum"]),
            DictionaryConfig(**config["dictionary"]),
            HeadConfig(**config["head"]),
            config["inverse_temperature"],
        )


class AlignedModel(nn.Module):
    """An image tower and a spectrum tower whose embeddings of one galaxy are close.

    Attributes:
        trained_on: Names of the surveys that a loaded model has seen, such as "synthetic".
    """

    def __init__(self, config: ModelConfig, trained_on: Sequence[str] = ()):
        super().__init__()
        self.trained_on = tuple(trained_on)
        self.config = config
        self.image = ImageTower(config.image, config.head)
        self.spectrum = SpectrumTower(config.spectrum, config.dictionary, config.head)
        start = math.log(config.inverse_temperature)
        self.log_inverse_temperature = nn.Parameter(torch.tensor(start))

    @property
    def simulations_only(self) -> bool:
        """Whether no real galaxy was in training; what it says of one is then unproven."""
        return self.trained_on == ("synthetic",)

    @property
    def inverse_temperature(self) -> Float[Tensor, ""]:
        """Multiplies the cosines in the loss; learned, from its logarithm (Radford et al. 2021)."""
        return self.log_inverse_temperature.exp()

    def embed_images(
        self, images: Images | np.ndarray, *, device: str = "auto", precision: Precision = "float32"
    ) -> Float[np.ndarray, "B D"]:
        """Unit vectors of cutouts: `Images`, or arrays (B, 3, y, x) in nanomaggies at 0.262″."""
        if not isinstance(images, Images):
            images = Images.from_arrays(images)
        return self._embed(self.image, images, device, precision)

    def embed_spectra(
        self,
        spectra: Spectra | np.ndarray,
        *,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> Float[np.ndarray, "B D"]:
        """Unit vectors of spectra: `Spectra`, or arrays (B, 7781) on the DESI grid."""
        if not isinstance(spectra, Spectra):
            spectra = Spectra.from_arrays(spectra)
        return self._embed(self.spectrum, spectra, device, precision)

    def redshift(self, spectra: Spectra | np.ndarray) -> Float[np.ndarray, "B"]:
        """Redshifts by the shift dictionary: a coordinate that the shared space blurs."""
        if not isinstance(spectra, Spectra):
            spectra = Spectra.from_arrays(spectra)
        return self.spectrum.dictionary.redshift(spectra)

    @torch.inference_mode()
    def _embed(
        self, tower: ImageTower | SpectrumTower, rows: Any, device: str, precision: Precision
    ) -> Float[np.ndarray, "B D"]:
        place = resolve_device(device)
        tower.to(place).eval()
        parts = []
        for start in range(0, len(rows), BATCH):
            inputs = tower.prepare(rows[start : start + BATCH])
            with autocast(place, precision):
                vectors = tower(type(inputs)(*(x.to(place) for x in inputs)))
            parts.append(F.normalize(vectors.float(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    def hash(self) -> str:
        """Names weights, configuration and preprocessing: what embeddings must agree in."""
        settings = [asdict(self.config), image_preprocess.SETTINGS, spectrum_preprocess.SETTINGS]
        text = bytearray(json.dumps(settings, sort_keys=True).encode())
        return digest({"settings": torch.frombuffer(text, dtype=torch.uint8), **self.state_dict()})


def load(source: str | Path) -> AlignedModel:
    """The aligned model of a run folder.

    Raises:
        ValueError: If the folder holds no finished alignment.
    """
    path = Path(source)
    config = read_config(path)
    if config.get("stage") != "align":
        raise ValueError(
            f"{path} holds a run of stage {config.get('stage')!r}; expected an alignment, "
            "made by `appulse align`"
        )
    model = AlignedModel(ModelConfig.from_json(config["model"]), config["survey"]["surveys"])
    model.load_state_dict(load_weights(path))
    return model.eval()
