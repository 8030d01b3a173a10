"""Recipes: named sets of sizes and schedules for a whole run."""

from dataclasses import dataclass

from .align.head import HeadConfig
from .align.model import ModelConfig
from .align.towers import ImageTowerConfig, SpectrumTowerConfig
from .image.vit import VisionTransformerConfig
from .spectrum.masked import MaskingConfig
from .spectrum.redshift import DictionaryConfig
from .spectrum.transformer import SpectrumTransformerConfig
from .training.loop import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made of, but its data."""

    image: ImageTowerConfig
    spectrum: SpectrumTowerConfig
    inverse_temperature: float  # where it starts
    masking: MaskingConfig
    pretrain_spectrum: TrainingConfig
    align: TrainingConfig

    @property
    def model(self) -> ModelConfig:
        """Both towers in one space."""
        return ModelConfig(self.image, self.spectrum, self.inverse_temperature)


def tiny() -> Recipe:
    """Two CPU cores, minutes: what `make demo` runs."""
    head = HeadConfig(width=256, depth=2, heads=4, embedding=64)
    return Recipe(
        image=ImageTowerConfig(
            VisionTransformerConfig(size=72, patch=18, width=64, depth=2, heads=4), head
        ),
        spectrum=SpectrumTowerConfig(
            SpectrumTransformerConfig(patch=160, stride=160, width=128, depth=3, heads=4),
            head,
            DictionaryConfig(),
        ),
        inverse_temperature=40.0,
        masking=MaskingConfig(chunks=6, width=3),
        pretrain_spectrum=TrainingConfig(steps=150, batch_size=128, validate_every=25),
        align=TrainingConfig(steps=300, batch_size=512, validate_every=25),
    )
