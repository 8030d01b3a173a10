"""One small run of the whole pipeline, made once and shared by every test that asks for it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

GALAXIES, SIZE = 600, 64


class Run(NamedTuple):
    """Where everything of the run is, and the recipe that made it."""

    survey: Path
    spectrum: Path
    align: Path
    embeddings: Path
    recipe: Any


@pytest.fixture(scope="session")
def recipe() -> Any:
    """`tiny`, smaller still: seconds on one core."""
    from dataclasses import replace

    from appulse.align.head import HeadConfig
    from appulse.align.model import ModelConfig
    from appulse.image.vit import VisionTransformerConfig
    from appulse.recipes import tiny
    from appulse.spectrum.redshift import DictionaryConfig
    from appulse.spectrum.transformer import SpectrumTransformerConfig

    whole = tiny()
    return replace(
        whole,
        model=ModelConfig(
            image=VisionTransformerConfig(size=48, patch=12, width=32, depth=1, heads=2),
            spectrum=SpectrumTransformerConfig(patch=160, stride=160, width=32, depth=1, heads=2),
            dictionary=DictionaryConfig(templates=4, seeds=2),
            head=HeadConfig(width=48, depth=1, heads=2, embedding=16),
            inverse_temperature=20.0,
        ),
        pretrain_spectrum=replace(whole.pretrain_spectrum, steps=12, batch_size=64, warmup=4),
        align=replace(
            whole.align, steps=80, batch_size=96, learning_rate=3e-3, warmup=8, validate_every=40
        ),
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Simulated galaxies."""
    from appulse import pipeline

    folder = tmp_path_factory.mktemp("survey")
    return pipeline.simulate(GALAXIES, folder / "survey.lance", seed=3, size=SIZE, processes=1)


@pytest.fixture(scope="session")
def run(store: Any, recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The stages up to embeddings, run on `store`; tests must leave it as it is."""
    from appulse import pipeline

    folder = tmp_path_factory.mktemp("run")
    run = Run(
        Path(store.path),
        *(folder / name for name in ("spectrum", "align", "embeddings")),
        recipe=recipe,
    )
    pipeline.pretrain_spectrum(run.survey, run.spectrum, recipe, device="cpu")
    pipeline.align(run.survey, run.spectrum, run.align, recipe, device="cpu")
    pipeline.embed(run.survey, run.align, run.embeddings, device="cpu")
    return run


@pytest.fixture(scope="session")
def galaxies(store: Any) -> Any:
    """A few galaxies of `store`."""
    return store.read(range(20))


@pytest.fixture
def model(recipe: Any, galaxies: Any) -> Any:
    """An untrained model in which no weight is 0 and templates are spectra: all parts speak."""
    import torch

    from appulse.align.model import AlignedModel
    from appulse.spectrum.redshift import unit_templates

    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AlignedModel(recipe.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    dictionary = model.spectrum.dictionary
    noise = torch.randn(dictionary.templates.shape, generator=rng)
    dictionary.templates = unit_templates(noise)
    dictionary.calibrate(galaxies.spectra, galaxies.columns["redshift"])
    model.image.head.standardise(model.image.prepare(galaxies.images).features)
    model.spectrum.head.standardise(model.spectrum.prepare(galaxies.spectra).features)
    return model.eval()
