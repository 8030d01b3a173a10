"""The demo's stages from a survey to embeddings, for benchmarks of what comes after."""

from pathlib import Path

from appulse import pipeline


def embeddings(survey: Path, work: Path) -> Path:
    """Trains, aligns and embeds as the demo does; what is in `work` is not done again."""
    made = work / "embeddings"
    if not (made / "test.lance").exists():
        spectrum, run = work / "spectrum", work / "align"
        pipeline.pretrain_spectrum(survey, spectrum)
        pipeline.align(survey, spectrum, run)
        pipeline.embed(survey, run, made)
    return made
