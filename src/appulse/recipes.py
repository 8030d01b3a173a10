"""Recipes: named sets of sizes and schedules for a whole run."""

from dataclasses import dataclass

from .align.head import HeadConfig
from .align.model import ModelConfig
from .image.vit import VisionTransformerConfig
from .spectrum.masked import MaskingConfig
from .spectrum.redshift import DictionaryConfig
from .spectrum.transformer import SpectrumTransformerConfig
from .training.loop import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made of, but its data."""

    model: ModelConfig
    masking: MaskingConfig
    pretrain_spectrum: TrainingConfig
    align: TrainingConfig


def tiny() -> Recipe:
    """Two CPU cores, minutes: what `make demo` runs."""
    return Recipe(
        model=ModelConfig(
            image=VisionTransformerConfig(size=72, patch=18, width=64, depth=2, heads=4),
            spectrum=SpectrumTransformerConfig(patch=160, stride=160, width=128, depth=3, heads=4),
            dictionary=DictionaryConfig(),
            head=HeadConfig(width=256, depth=2, heads=4, embedding=64),
            inverse_temperature=40.0,
        ),
        masking=MaskingConfig(chunks=6, width=3),
        pretrain_spectrum=TrainingConfig(steps=150, batch_size=128, validate_every=25),
        align=TrainingConfig(steps=300, batch_size=512, validate_every=25),
    )
