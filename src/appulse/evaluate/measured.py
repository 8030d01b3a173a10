"""What the baselines look at: fluxes, binned pixels and their principal components.

Shapes: B galaxies, A apertures, N bands.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

from ..image.preprocess import to_nanomaggies
from ..progress import track
from ..survey.images import Images
from ..survey.photometry import aperture_fluxes, band_fluxes, filter_fluxes
from ..survey.spectra import Spectra
from . import baselines
from .sample import PARTS, Sample

COMPONENTS = 64
PCA_GALAXIES = 3000  # that the components are learned from
TOTAL = 6  # index of the aperture taken as total flux, 6″
BATCH = 512
ZERO_POINT = 22.5  # mag of a nanomaggy

Features = Mapping[str, Float[np.ndarray, "_ _"]]  # by part


class Measured(NamedTuple):
    """One row a galaxy; of encoder-train pixels and brightness of the first only.

    Components are learned from those.
    """

    apertures: Float[np.ndarray, "B 3 A"]  # nanomaggies
    bands: Float[np.ndarray, "B N"]  # through filters and top-hats
    image: Float[np.ndarray, "B P"]
    spectrum: Float[np.ndarray, "B Q"]
    brightness: Float[np.ndarray, "B 1"]

    @property
    def r_magnitude(self) -> Float[np.ndarray, "B"]:
        """AB, in the aperture taken as total; NaN without flux."""
        flux = self.apertures[:, 1, TOTAL]
        return ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def measure(sample: Sample) -> dict[str, Measured]:
    """The galaxies of every part of a sample, encoder-train too."""
    return {part: _measure(sample, part) for part in ("encoder-train", *PARTS)}


def _measure(sample: Sample, part: str) -> Measured:
    rows = sample.rows(part)
    seen = PCA_GALAXIES if part == "encoder-train" else len(rows)
    starts = range(0, len(rows), BATCH)
    surveys = (sample.store.read(rows[i : i + BATCH]) for i in starts)
    found = defaultdict[str, list[np.ndarray]](list)
    for start, survey in zip(starts, track(surveys, f"measure {part}", len(rows)), strict=True):
        images = to_nanomaggies(survey.images)
        made = _fluxes(images, survey.spectra)
        made |= _pixels(images, survey.spectra) if start < seen else {}
        for name, values in made.items():
            found[name].append(values)
    return Measured(**{name: np.concatenate(values) for name, values in found.items()})


def _fluxes(images: Images, spectra: Spectra) -> dict[str, np.ndarray]:
    bands = np.hstack([filter_fluxes(spectra)[0], band_fluxes(spectra)[0]])
    return {"apertures": aperture_fluxes(images), "bands": bands}


def _pixels(images: Images, spectra: Spectra) -> dict[str, np.ndarray]:
    return {
        "image": baselines.image_pixels(images.filled()),
        "spectrum": baselines.spectrum_pixels(spectra),
        "brightness": baselines.brightness(spectra),
    }


def magnitudes(measured: Mapping[str, Measured], apertures: slice) -> Features:
    """Asinh magnitudes and colours in some of the apertures."""
    return {
        part: baselines.magnitudes_and_colours(m.apertures[:, :, apertures])
        for part, m in measured.items()
    }


def component_scores(pixels: Features, brightness: Features | None = None) -> dict[str, np.ndarray]:
    """Principal components of the first of encoder-train; brightness, if divided out, beside."""
    some = pixels["encoder-train"][:PCA_GALAXIES]
    components = PCA(COMPONENTS, random_state=0, svd_solver="randomized").fit(some)
    scores = {part: components.transform(values) for part, values in pixels.items()}
    if brightness is None:
        return scores
    like_the_first = scores["head-train"][:, 0].std() / brightness["head-train"].std()
    return {p: np.hstack([scores[p], like_the_first * b]) for p, b in brightness.items()}
