"""Recipes: named sets of sizes and schedules for a whole run."""

from dataclasses import dataclass, field, replace

from .align.head import HeadConfig, PoolConfig
from .align.model import ModelConfig
from .align.pairs import LearningConfig
from .align.towers import ImageTowerConfig, SpectrumTowerConfig
from .image.contrast import ContrastConfig
from .image.dino import DinoConfig
from .image.dino_head import DinoHeadConfig
from .image.vit import VisionTransformerConfig
from .inference.fitting import PosteriorConfig
from .spectrum.masked import MaskingConfig
from .spectrum.redshift import DictionaryConfig
from .spectrum.rest import RestConfig
from .spectrum.transformer import SpectrumTransformerConfig
from .tasks.generate import CONFIG as SPECTRA
from .tasks.properties import CONFIG as PROPERTIES
from .training.loop import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made of, but its data."""

    image: ImageTowerConfig
    spectrum: SpectrumTowerConfig
    inverse_temperature: float  # where it starts
    masking: MaskingConfig
    pretrain_spectrum: TrainingConfig
    objective: DinoConfig | ContrastConfig  # of the image transformer
    pretrain_image: TrainingConfig
    align: TrainingConfig
    learning: LearningConfig = field(default_factory=LearningConfig)  # in `align`
    posterior: PosteriorConfig = PROPERTIES
    generator: PosteriorConfig = SPECTRA

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
            RestConfig(components=10, bin=1.8e-3),
        ),
        inverse_temperature=40.0,
        masking=MaskingConfig(chunks=6, width=3),
        pretrain_spectrum=TrainingConfig(steps=150, batch_size=128, validate_every=25),
        objective=ContrastConfig(),
        pretrain_image=TrainingConfig(
            steps=300,
            batch_size=128,
            learning_rate=2e-3,
            weight_decay=0.05,
            clip=3.0,
            validate_every=50,
        ),
        align=TrainingConfig(steps=1200, batch_size=128, validate_every=100, fused=True),
        posterior=replace(
            PROPERTIES,
            estimator=replace(PROPERTIES.estimator, width=64),
            fit=replace(PROPERTIES.fit, passes=250.0),
        ),
        generator=replace(SPECTRA, estimator=replace(SPECTRA.estimator, width=64)),
    )


def small() -> Recipe:
    """One GPU, hours: vision transformer S/12 and the paper's patches of spectra."""
    head = HeadConfig(width=512, depth=2, heads=8, embedding=256)
    return Recipe(
        image=ImageTowerConfig(
            VisionTransformerConfig(width=384, depth=12, heads=6, layer_scale=1e-5), head
        ),
        spectrum=SpectrumTowerConfig(
            SpectrumTransformerConfig(width=384, depth=6, heads=6),
            head,
            DictionaryConfig(),
            RestConfig(components=10, bin=1.8e-3),
        ),
        inverse_temperature=40.0,
        masking=MaskingConfig(),
        pretrain_spectrum=TrainingConfig(
            steps=20_000, batch_size=128, learning_rate=3e-4, warmup=1000, validate_every=1000
        ),
        objective=DinoConfig(
            head=DinoHeadConfig(prototypes=16_384),
            warmup=7500,
            stochastic_depth=0.1,
        ),
        pretrain_image=TrainingConfig(
            steps=50_000,
            batch_size=128,
            learning_rate=5e-4,
            floor=2e-3,
            weight_decay=0.04,
            final_weight_decay=0.2,
            warmup=5000,
            rest=500,
            clip=3.0,
            validate_every=1000,
        ),
        align=TrainingConfig(
            steps=10_000, batch_size=1024, learning_rate=5e-4, warmup=500, validate_every=500
        ),
    )


def paper() -> Recipe:
    """AstroCLIP's shapes and hyper-parameters (Parker et al. 2024, and its code).

    Batches are the whole of what its GPUs saw at once; 1250 steps of image training are an epoch.
    """
    width = 1024
    return Recipe(
        image=ImageTowerConfig(
            VisionTransformerConfig(
                colours="rgb", positions="none", layer_scale=1e-5, norm_eps=1e-6
            ),
            PoolConfig(width, residual=False),
        ),
        spectrum=SpectrumTowerConfig(
            SpectrumTransformerConfig(stem="standard"), PoolConfig(width), None
        ),
        inverse_temperature=15.5,
        masking=MaskingConfig(),
        pretrain_spectrum=TrainingConfig(
            steps=500_000,
            batch_size=64,
            learning_rate=1e-5,
            betas=(0.9, 0.95),
            warmup=2000,
            precision="float32",
        ),
        objective=DinoConfig(),
        pretrain_image=TrainingConfig(
            steps=250_000,
            batch_size=72 * 20,
            learning_rate=2e-4 * (72 * 20 / 1024) ** 0.5,
            floor=1e-6 / (2e-4 * (72 * 20 / 1024) ** 0.5),
            weight_decay=1e-3,
            final_weight_decay=1e-2,
            warmup=40_000,
            rest=1250,
            clip=3.0,
        ),
        align=TrainingConfig(
            steps=10_000,
            batch_size=256,
            learning_rate=1e-4,
            weight_decay=0.05,
            warmup=1000,
            precision="float32",
        ),
        learning=LearningConfig(image=False, spectrum=False, temperature=False),
    )
