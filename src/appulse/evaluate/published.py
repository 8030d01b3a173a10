"""Numbers of AstroCLIP's paper, to be read beside ours: other galaxies, other labels.

They are for galaxies of DESI's early data release with PROVABGS and Galaxy Zoo DECaLS labels, as
the README of the reference implementation has them (Parker et al. 2024), which gives two digits,
no intervals and no posterior densities. Redshifts and properties are by k-NN on frozen embeddings
unless said; morphology is by a network of three layers, trained on them.
"""

from typing import Any, NamedTuple

from .results import Modality

SOURCE = "AstroCLIP's README: other data"


class Published(NamedTuple):
    """One number."""

    method: str
    modality: Modality
    target: str
    metric: str
    value: float


def _scores(
    method: str,
    modality: Modality,
    redshift: float | None = None,
    properties: float | None = None,
    morphology: float | None = None,
) -> list[Published]:
    columns: tuple[tuple[str, str, Any], ...] = (
        ("redshift", "R²", redshift),
        ("properties", "mean R²", properties),
        ("morphology", "accuracy", morphology),
    )
    there = (column for column in columns if column[2] is not None)
    return [Published(method, modality, *column) for column in there]


PUBLISHED = [
    *_scores("AstroCLIP", "image", 0.79, 0.47, 0.76),
    *_scores("its image encoder, unaligned (DINOv2)", "image", 0.63, 0.37, 0.78),
    *_scores("Stein et al. (MoCo v2)", "image", 0.36, 0.26, 0.76),
    *_scores("ResNet18, supervised", "image", 0.77, 0.43),
    *_scores("g, r, z MLP, supervised", "image", 0.68, 0.42),
    *_scores("Zoobot, supervised", "image", morphology=0.88),
    *_scores("AstroCLIP", "spectrum", 0.99, 0.63),
    *_scores("SpecFormer, unaligned", "spectrum", 0.99, 0.64),
    *_scores("Conv+Att, supervised", "spectrum", 0.99, 0.60),
]
