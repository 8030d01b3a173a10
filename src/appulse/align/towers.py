"""The two towers: a trunk that makes tokens of a galaxy, and a head that makes one vector of them.

Shapes: B galaxies, T tokens, E token width, F features, N patches, D embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..image import preprocess as image_preprocess
from ..image.vit import VisionTransformer, VisionTransformerConfig
from ..spectrum import preprocess as spectrum_preprocess
from ..spectrum.redshift import DICTIONARY, DictionaryConfig, ShiftDictionary
from ..spectrum.rest import REST, RestConfig, RestSpace
from ..spectrum.transformer import SpectrumTransformer, SpectrumTransformerConfig
from ..survey.images import Images
from ..survey.spectra import Spectra
from ..training.run import load_tensors, load_weights, read_config
from .head import AttentionPool, FirstToken, Head, HeadConfig, PoolConfig, TokenMean

MEASURES = ("dictionary", "rest")  # what a spectrum tower measures features by
AnyHead = Head | AttentionPool | FirstToken | TokenMean
UNNAMED = "unnamed"  # survey of galaxies that name none
BATCH = 256  # galaxies at once, at most
NUMBERS = 2**26  # in the largest activation of a batch: 256 MB in float32


@dataclass(frozen=True)
class ImageTowerConfig:
    """Sizes of an image tower; without a head its class token is the embedding."""

    trunk: VisionTransformerConfig
    head: HeadConfig | PoolConfig | None


@dataclass(frozen=True)
class SpectrumTowerConfig:
    """Sizes of a spectrum tower; without a head the mean of its tokens is the embedding."""

    trunk: SpectrumTransformerConfig
    head: HeadConfig | PoolConfig | None
    dictionary: DictionaryConfig | None  # a head that reads features needs one
    rest: RestConfig | None = None  # of spectra that the dictionary puts at rest

    def __post_init__(self) -> None:
        if isinstance(self.head, HeadConfig) and self.dictionary is None:
            raise ValueError("a head that reads features needs a shift dictionary; expected both")
        if self.rest is not None and self.dictionary is None:
            raise ValueError("components at rest need a shift dictionary; expected both")


class Tower(nn.Module, ABC):
    """What both towers share: from inputs to tokens to one vector."""

    trunk: nn.Module
    head: AnyHead
    config: Any

    @property
    def batch_size(self) -> int:
        """Galaxies at once, such that the widest layer's activations stay within `NUMBERS`."""
        trunk = self.config.trunk
        return max(1, min(BATCH, NUMBERS // (4 * trunk.width * trunk.patches)))

    @property
    def locked(self) -> bool:
        """Whether the trunk learns nothing; its tokens can then be kept."""
        return not any(parameter.requires_grad for parameter in self.trunk.parameters())

    @abstractmethod
    def tokens(self, inputs: Any) -> Float[Tensor, "B T E"]:
        """What the trunk sees."""

    def forward(self, inputs: Any) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        return self.head(inputs.features, self.tokens(inputs))

    def standardise(self, features: Float[Tensor, "N F"]) -> None:
        """Learns the units of the features from a training set, if the head reads any."""
        if isinstance(self.head, Head):
            self.head.whiten.learn(features)


class ImageTower(Tower):
    """A vision transformer and its head; aperture fluxes may enter beside the patches."""

    trunk: VisionTransformer

    def __init__(self, config: ImageTowerConfig):
        super().__init__()
        self.config = config
        self.trunk = VisionTransformer(config.trunk)
        whole = FirstToken() if config.trunk.class_token else TokenMean()
        self.head = _head(config.head, image_preprocess.FEATURES, config.trunk.width, whole)

    def load_pretrained(self, run: Path) -> list[str]:
        """Takes the trunk of an image run, or of its teacher: all parts that ours has.

        Returns:
            Names of the surveys that the run learned from.

        Raises:
            ValueError: If the folder holds no finished image run of these sizes.
        """
        there = _require_stage(run, "pretrain image")
        sizes = asdict(pretraining_trunk(self.config.trunk))
        if there["image"] != sizes:
            raise ValueError(f"{run} holds an image tower of other sizes; expected {sizes}")
        ours = self.trunk.state_dict()
        weights = {n.removeprefix("teacher."): t for n, t in load_weights(run).items()}
        self.trunk.load_state_dict({name: weights[f"trunk.{name}"] for name in ours})
        return surveys_of(there["survey"])

    def prepare(self, images: Images) -> image_preprocess.ImageInputs:
        """What `forward` takes."""
        if self.config.trunk.colours == "rgb":
            return image_preprocess.prepare_picture(images, self.config.trunk.size)
        return image_preprocess.prepare(images, self.config.trunk.size)

    def tokens(self, inputs: image_preprocess.ImageInputs) -> Float[Tensor, "B T E"]:
        """One vector per patch, perhaps a class token before them."""
        return self.trunk(inputs.flux, inputs.mask, inputs.pixel_scale)


class SpectrumTower(Tower):
    """A spectrum transformer, perhaps a shift dictionary, and the head that reads both."""

    trunk: SpectrumTransformer
    dictionary: ShiftDictionary | None
    rest: RestSpace | None

    def __init__(self, config: SpectrumTowerConfig):
        super().__init__()
        self.config = config
        self.trunk = SpectrumTransformer(config.trunk)
        self.dictionary = None if config.dictionary is None else ShiftDictionary(config.dictionary)
        self.rest = None
        features = spectrum_preprocess.BANDS + 1
        if config.dictionary is not None:
            features += config.dictionary.templates
            if config.rest is not None:
                self.rest = RestSpace(config.rest)
                features += config.rest.components + 1
        self.head = _head(config.head, features, config.trunk.width, TokenMean())

    def load_pretrained(self, run: Path) -> list[str]:
        """Takes trunk, dictionary and components at rest of a spectrum run.

        Returns:
            Names of the surveys that the run learned from.

        Raises:
            ValueError: If the folder holds no finished spectrum run of these sizes.
        """
        there = _require_stage(run, "pretrain spectrum")
        wanted = asdict(self.config)
        sizes = {"spectrum": wanted["trunk"]} | {n: wanted[n] for n in MEASURES}
        if any(there[name] != sizes[name] for name in sizes):
            raise ValueError(f"{run} holds a spectrum tower of other sizes; expected {sizes}")
        weights = load_weights(run)
        trunk = {n.removeprefix("trunk."): w for n, w in weights.items() if n.startswith("trunk.")}
        self.trunk.load_state_dict(trunk)
        if self.dictionary is not None:
            self.dictionary.load_state_dict(load_tensors(run / DICTIONARY))
        if self.rest is not None:
            self.rest.load_state_dict(load_tensors(run / REST))
        return surveys_of(there["survey"])

    def coordinates(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Looks at rest, brightness and redshift, of what the head reads beside tokens.

        Raises:
            ValueError: If the tower does not measure them.
        """
        if self.rest is None:
            raise ValueError("this spectrum tower has no components at rest to measure by")
        encoded = features[:, -self.rest.config.components - 1 :]
        return self.rest.coordinates(features[:, spectrum_preprocess.BANDS], encoded)

    def redshift(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B Z"]:
        """By the dictionary, of what the head reads beside tokens; Z is 0 if that lacks a shift.

        So it is before `ShiftDictionary.calibrate`. In double precision, on the CPU.
        """
        if self.dictionary is None or not isinstance(self.config.head, HeadConfig):
            return features[:, :0]
        zero = self.dictionary.zero_point.cpu()
        if zero.isnan():
            return features[:, :0]
        shift = features[:, spectrum_preprocess.BANDS, None].cpu().double()  # mps has no float64
        return torch.expm1(shift + zero)

    def measured(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B M"]:
        """Coordinates and redshift side by side, of those that the tower measures."""
        nothing = features[:, :0]
        coordinates = nothing if self.rest is None else self.coordinates(features)
        return torch.cat([coordinates, self.redshift(features).to(coordinates)], dim=1)

    def pretrained(self) -> dict[str, Tensor]:
        """The tensors that `load_pretrained` fills."""
        filled = ("trunk.", *(f"{name}." for name in MEASURES))
        return {name: t for name, t in self.state_dict().items() if name.startswith(filled)}

    def prepare(self, spectra: Spectra) -> spectrum_preprocess.SpectrumInputs:
        """What `forward` takes: on the DESI grid for SpecFormer's stem, which counts pixels."""
        return spectrum_preprocess.prepare(
            spectra,
            self.dictionary if isinstance(self.config.head, HeadConfig) else None,
            self.rest,
            desi_grid_only=self.config.trunk.stem == "standard",
        )

    def tokens(self, inputs: spectrum_preprocess.SpectrumInputs) -> Float[Tensor, "B T E"]:
        """One vector for the brightness, then one per patch."""
        return self.trunk(inputs.flux, inputs.ivar, inputs.wavelength)


def pretraining_trunk(trunk: VisionTransformerConfig) -> VisionTransformerConfig:
    """The trunk as pretraining needs it: with class token, and some kind of positions."""
    positions = "learned" if trunk.positions == "none" else trunk.positions
    return replace(trunk, class_token=True, positions=positions)


def surveys_of(identity: Mapping[str, Any]) -> list[str]:
    """Names of the surveys in a store, of its identity; galaxies without one may be real."""
    return identity["surveys"] or [UNNAMED]


def _require_stage(run: Path, stage: str) -> dict[str, Any]:
    there = read_config(run)
    if there.get("stage") != stage:
        raise ValueError(
            f"{run} holds a run of stage {there.get('stage')!r}; expected a "
            f"{stage.replace('pretrain', 'pretrained')} tower, made by `appulse {stage}`"
        )
    return there


def _head(
    config: HeadConfig | PoolConfig | None, features: int, width: int, none: AnyHead
) -> AnyHead:
    if isinstance(config, HeadConfig):
        return Head(config, features, width)
    return none if config is None else AttentionPool(config, width)
