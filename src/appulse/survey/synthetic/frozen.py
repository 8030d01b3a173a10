"""Surveys that stay as they are, so that results on them can be compared over the years.

Hashes are of every bit, which processors with other vector units round differently; the
statistics hold on any machine. `benchmarks/survey.py` wrote both to `benchmarks/survey.json`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..survey import Survey
from .labels import RELEASE
from .simulate import simulate_blocks


@dataclass(frozen=True)
class Frozen:
    """A survey by the arguments of `simulate`; ids and seeds are its own."""

    n: int
    seed: int
    size: int = 96

    def blocks(self, processes: int | None = 1, n: int | None = None) -> Iterator[Survey]:
        """The survey, or its first `n` galaxies, in order."""
        return simulate_blocks(n or self.n, self.seed, self.size, processes)


FROZEN = {f"{RELEASE}-20k": Frozen(20_000, 1001), f"{RELEASE}-100k": Frozen(100_000, 1002)}


def fingerprint(blocks: Iterable[Survey]) -> str:
    """SHA-256 of all arrays of all blocks, in order."""
    digest = hashlib.sha256()
    for block in blocks:
        images, spectra = block.images, block.spectra
        columns = (block.columns[name] for name in sorted(block.columns))
        for array in (block.ids, images.flux, images.ra, spectra.flux, spectra.ivar, *columns):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def statistics(survey: Survey) -> dict[str, float]:
    """Mean of pixels, of |pixels| and of every column of numbers."""
    images, spectra = survey.images.flux.astype(float), survey.spectra
    found = {f"image {band}": images[:, k].mean() for k, band in enumerate("grz")}
    found |= {f"|image {band}|": np.abs(images[:, k]).mean() for k, band in enumerate("grz")}
    found["spectrum"] = spectra.flux.astype(float).mean()
    found["|spectrum|"] = np.abs(spectra.flux.astype(float)).mean()
    found["sigma"] = (1 / np.sqrt(spectra.ivar.astype(float))).mean()
    found |= {k: np.nanmean(v) for k, v in survey.columns.items() if v.dtype.kind == "f"}
    return {name: float(value) for name, value in found.items()}
