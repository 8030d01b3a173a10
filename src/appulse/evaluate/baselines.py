"""Honest baselines: what brightness, colour and linear algebra reach without any encoder.

Each takes arrays and learns on the same galaxies as the probes of the embeddings. Principal
components need no code of ours: `sklearn.decomposition.PCA(64).fit(pixels)` on `image_pixels` or
`spectrum_pixels` of galaxies outside the test part, then a probe on the scores.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics.pairwise import euclidean_distances

from ..spectrum.redshift import DictionaryConfig, ShiftDictionary, high_pass, unit_templates
from ..survey.photometry import SOFTENING, band_fluxes, colours_and_growth
from ..survey.spectra import Spectra
from ..tasks.probes import Features, MLPProbe, ValFeatures
from ..tasks.targets import Targets, ValTargets

BAND_SOFTENING = 0.1  # of arcsinh for spectra, 1e-17 erg/s/cm²/Å
ROUNDS, PATIENCE = 400, 15  # of boosting at most, and without a better one
OTHERS = 4000  # spectra that say how common an image is
FEWEST = 5  # galaxies of a template
AT_ONCE = 512  # spectra on the log grid
SHRINK = 0.1  # of a template's mean weight: where it has much less, it says less
PIXEL_SOFTENING = 0.02  # nanomaggies per pixel; about the sky noise of a Legacy Surveys image


def magnitudes_and_colours(flux: Float[np.ndarray, "B 3 A"]) -> Float[np.ndarray, "B F"]:
    """Asinh magnitudes (Lupton et al. 1999) in A apertures, their colours and their growth.

    Trees split on one feature at a time, so differences are handed to them.

    Args:
        flux: Nanomaggies in g, r, z; total fluxes are one aperture.
    """
    magnitude = np.arcsinh(flux / SOFTENING)
    return np.hstack([magnitude.reshape(len(flux), -1), colours_and_growth(magnitude)])


def image_pixels(flux: Float[np.ndarray, "B 3 y x"], side: int = 32) -> Float[np.ndarray, "B F"]:
    """Pixels for principal components: the centre binned to `side` × `side`, asinh scaled.

    Args:
        flux: Nanomaggies per pixel; at least `side` pixels wide and high.
        side: Bins along an edge.
    """
    batch, bands, height, width = flux.shape
    step = min(height, width) // side
    if step == 0:
        raise ValueError(f"images of {height}×{width} pixels cannot be binned to {side}×{side}")
    top, left = (height - step * side) // 2, (width - step * side) // 2
    centre = flux[:, :, top : top + step * side, left : left + step * side]
    binned = centre.reshape(batch, bands, side, step, side, step).mean(axis=(3, 5))
    return np.arcsinh(binned / PIXEL_SOFTENING).reshape(batch, -1)


def spectrum_pixels(spectra: Spectra, bins: int = 400) -> Float[np.ndarray, "B F"]:
    """Pixels for principal components: the shape of each spectrum in `bins` bins, weighted by ivar.

    Each row is divided by its median, so brightness is gone; hand it to the probe beside the
    components (`brightness`). Values are clipped, as one cosmic ray would own a component.
    """
    edges = tuple(np.linspace(3600, 9824, bins + 1).tolist())
    flux, _ = band_fluxes(spectra, edges)
    return np.clip(flux / _median(flux), -5, 20)


def brightness(spectra: Spectra) -> Float[np.ndarray, "B 1"]:
    """Log median flux of each spectrum, what `spectrum_pixels` takes out."""
    flux, _ = band_fluxes(spectra)
    return np.log10(_median(flux))


def _median(flux: Float[np.ndarray, "B N"]) -> Float[np.ndarray, "B 1"]:
    return np.maximum(np.median(flux, axis=1, keepdims=True), 0.05)


class Boosting:
    """Histogram gradient boosting, one model for each target, stopped early on validation."""

    def __init__(self, models: list):
        self._models = models

    @classmethod
    def fit(cls, x: Features, y: Targets, x_val: ValFeatures, y_val: ValTargets) -> "Boosting":
        """Targets as for the probes: numbers, shape (B, P), NaN where unknown, or class names."""
        settings = {"learning_rate": 0.06, "max_iter": ROUNDS, "early_stopping": True}
        settings |= {"n_iter_no_change": PATIENCE, "random_state": 0}
        if y.ndim == 1:
            model = HistGradientBoostingClassifier(**settings)
            met = np.isin(y_val, y)  # of other classes it can learn nothing
            return cls([model.fit(x, y, X_val=x_val[met], y_val=y_val[met])])
        models = []
        for column, column_val in zip(y.T, y_val.T, strict=True):
            known, known_val = ~np.isnan(column), ~np.isnan(column_val)
            models.append(
                HistGradientBoostingRegressor(**settings).fit(
                    x[known], column[known], X_val=x_val[known_val], y_val=column_val[known_val]
                )
            )
        return cls(models)

    def predict(self, x: Features) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        if isinstance(self._models[0], HistGradientBoostingClassifier):
            return self._models[0].predict(x)
        return np.stack([model.predict(x) for model in self._models], axis=1)


class PhotometryMatch:
    """Retrieval by synthetic photometry: the image's aperture fluxes predicted from the spectrum.

    Images and spectra become vectors whose Euclidean distance d is the Mahalanobis distance between
    measured and predicted asinh magnitudes m and s, under the covariance of the prediction's error
    on validation galaxies: log p(m | s) = -d²/2, but for a constant.
    """

    def __init__(
        self,
        predictor: MLPProbe,
        whiten: Float[np.ndarray, "A A"],
        others: Float[np.ndarray, "N A"],  # vectors of spectra that were learned from
    ):
        self._predictor, self._whiten, self._others = predictor, whiten, others

    @classmethod
    def fit(
        cls,
        apertures: Float[np.ndarray, "B A"],
        bands: Float[np.ndarray, "B N"],
        apertures_val: Float[np.ndarray, "V A"],
        bands_val: Float[np.ndarray, "V N"],
        seed: int = 0,
    ) -> "PhotometryMatch":
        """Learns to predict aperture fluxes [nanomaggies] from band fluxes [1e-17 erg/s/cm²/Å]."""
        magnitudes = np.arcsinh(apertures / SOFTENING)
        magnitudes_val = np.arcsinh(apertures_val / SOFTENING)
        x, x_val = np.arcsinh(bands / BAND_SOFTENING), np.arcsinh(bands_val / BAND_SOFTENING)
        predictor = MLPProbe.fit(x, magnitudes, x_val, magnitudes_val, seed)
        error = magnitudes_val - predictor.predict(x_val)
        precision = np.linalg.inv(np.cov(error.T) + 1e-6 * np.eye(error.shape[1]))
        whiten = np.linalg.cholesky(precision)
        return cls(predictor, whiten, predictor.predict(x[:OTHERS]) @ whiten)

    def similarity(
        self, image: Float[np.ndarray, "B A"], spectrum: Float[np.ndarray, "C A"]
    ) -> Float[np.ndarray, "B C"]:
        """log p(m | s) - log p(m): how an image ranks spectra, and a spectrum images.

        Without p(m), its mean over spectra that were learned from, common images are near to all.
        """
        own, others = (_log_density(image, s) for s in (spectrum, self._others))
        return own - logsumexp(others, axis=1, keepdims=True) + np.log(len(self._others))

    def image_vectors(self, apertures: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B A"]:
        """Whitened measured magnitudes."""
        return np.arcsinh(apertures / SOFTENING) @ self._whiten

    def spectrum_vectors(self, bands: Float[np.ndarray, "B N"]) -> Float[np.ndarray, "B A"]:
        """Whitened predicted magnitudes."""
        return self._predictor.predict(np.arcsinh(bands / BAND_SOFTENING)) @ self._whiten


def _log_density(
    image: Float[np.ndarray, "B A"], spectrum: Float[np.ndarray, "C A"]
) -> Float[np.ndarray, "B C"]:
    """Of whitened magnitudes about their predictions, but for a constant."""
    return -euclidean_distances(image, spectrum, squared=True) / 2


class TemplateMatch:
    """Redshifts by cross-correlation with templates stacked from galaxies of known redshift.

    What a survey's pipeline does with a template library (Tonry & Davis 1979): the library is
    the mean rest-frame spectrum of each of 12 kinds, found by k-means. Fewer galaxies make fewer
    kinds, and a kind of few galaxies no template: it would be their noise.
    """

    def __init__(self, dictionary: ShiftDictionary):
        self._dictionary = dictionary

    @classmethod
    def fit(
        cls, spectra: Spectra, redshift: Float[np.ndarray, "B"], seed: int = 0
    ) -> "TemplateMatch":
        """Stacks continuum-free spectra at their shifts; those of redshifts that do not fit go.

        The largest of a window that holds most, .48 wide in ln(1 + z), sits at shift 0.
        """
        config = DictionaryConfig()
        flux, weight = _high_passed(spectra, config)
        zero = np.log1p(_highest(redshift, (config.shifts - 0.5) * config.bin))
        shift = np.rint((zero - np.log1p(redshift)) / config.bin).astype(int)
        near = (shift >= 0) & (shift < config.shifts)
        rest, known = np.zeros((2, near.sum(), config.length), dtype=np.float32)
        for row, (s, f, w) in enumerate(zip(shift[near], flux[near], weight[near], strict=True)):
            rest[row, s : s + config.bins], known[row, s : s + config.bins] = f, w
        count = int(np.clip(len(rest) // config.members, 1, config.templates))
        kinds = KMeans(count, n_init=1, random_state=seed).fit_predict(rest * (known > 0))
        members = np.eye(count, dtype=np.float32)[kinds].T
        members = members[members.sum(1) >= min(FEWEST, members.sum(1).max())]
        seen = members @ known
        little = SHRINK * seen.mean(axis=1, keepdims=True)
        templates = (members @ (known * rest)) / (seen + little)
        dictionary = ShiftDictionary(replace(config, templates=len(templates)))
        dictionary.templates = unit_templates(torch.from_numpy(templates))
        dictionary.zero_point.fill_(zero)
        return cls(dictionary)

    def predict(self, spectra: Spectra) -> Float[np.ndarray, "B"]:
        """Redshift of each spectrum."""
        return self._dictionary.redshift(spectra)


def _high_passed(
    spectra: Spectra, config: DictionaryConfig
) -> tuple[Float[np.ndarray, "B L"], Float[np.ndarray, "B L"]]:
    """As `high_pass`, some spectra at a time."""
    starts = range(0, len(spectra), AT_ONCE)
    parts = [high_pass(spectra[i : i + AT_ONCE], config) for i in starts]
    flux, weight = (torch.cat(side).numpy() for side in zip(*parts, strict=True))
    return flux, weight


def _highest(redshift: Float[np.ndarray, "B"], width: float) -> float:
    """Of the window in ln(1 + z) that holds most redshifts, and of several of the highest."""
    z = np.sort(redshift)
    shift = np.log1p(z)
    inside = np.arange(len(z)) - np.searchsorted(shift, shift - width)
    return float(z[np.flatnonzero(inside == inside.max())[-1]])
