"""The demo's stages up to embeddings, for benchmarks of what comes after."""

from pathlib import Path
from typing import NamedTuple

from appulse import pipeline


class Stages(NamedTuple):
    """Where survey and embeddings are."""

    survey: Path
    embeddings: Path


def prepare(folder: Path, n: int, seed: int = 0) -> Stages:
    """Simulates, trains, aligns and embeds as the demo does; embeddings that are there are used."""
    survey, spectrum, run = (folder / name for name in ("survey.lance", "spectrum", "align"))
    if (folder / "embeddings" / "test.lance").exists():
        return Stages(survey, folder / "embeddings")
    pipeline.simulate(n, survey, seed=seed)
    pipeline.pretrain_spectrum(survey, spectrum)
    pipeline.align(survey, spectrum, run)
    pipeline.embed(survey, run, folder / "embeddings")
    return Stages(survey, folder / "embeddings")
