"""Views of a galaxy that self-distillation calls the same: crops, turns, worse seeing and noise.

Shapes: B images, y and x pixels.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

Rng = TypeVar("Rng", np.random.Generator, np.random.RandomState)


class Lognormal(NamedTuple):
    """A shifted log-normal distribution for each of g, r, z."""

    shape: tuple[float, float, float]
    shift: tuple[float, float, float]
    scale: tuple[float, float, float]

    def sample(self, rng: Rng) -> Float[np.ndarray, "3"]:
        """One value a band."""
        return rng.lognormal(np.log(self.scale), self.shape) + self.shift


# Fits to the Legacy Surveys by Stein et al. (2021, ssl-legacysurvey): standard deviation of the
# sky in nanomaggies per pixel, and of the point-spread function in pixels.
NOISE = Lognormal(
    (0.2264926, 0.2431146, 0.1334844),
    (-0.0006735, -0.0023663, -0.0143416),
    (0.0037602, 0.0067417, 0.0260779),
)
SEEING = Lognormal(
    (0.2109966, 0.3008485, 0.3471172),
    (1.0807153, 1.2394326, 1.1928363),
    (1.3153171, 0.9164757, 0.8233702),
)


@dataclass(frozen=True)
class CropConfig:
    """Sizes and numbers of views; the defaults are AstroDINO's, with what its code does."""

    whole: int = 144  # pixels of the two global crops
    part: int = 60  # pixels of the local ones
    parts: int = 8
    # chance of worse seeing, and of more noise, in the first and second global crop and in parts
    degrade: tuple[float, float, float] = (0.0, 0.9, 0.5)


class Crops(NamedTuple):
    """Views of a batch: all of the first kind, then all of the second, and so on."""

    whole: Float[np.ndarray, "B 3 y x"]
    parts: Float[np.ndarray, "C 3 v u"]


def multi_crop(
    flux: Float[np.ndarray, "B 3 y x"], config: CropConfig, rng: np.random.Generator
) -> Crops:
    """Global and local crops, each moved, turned, blurred and made noisier on its own.

    Flux stays in nanomaggies: seeing and noise come before any arcsinh.
    """
    first, second, parts = config.degrade
    chances = [first, second], [parts] * config.parts
    whole, part = (
        np.concatenate([np.stack([_view(f, size, p, rng) for f in flux]) for p in chance])
        if chance
        else np.zeros((0, 3, size, size), np.float32)
        for size, chance in zip((config.whole, config.part), chances, strict=True)
    )
    return Crops(whole, part)


def _view(
    flux: Float[np.ndarray, "3 y x"], size: int, chance: float, rng: np.random.Generator
) -> Float[np.ndarray, "3 v u"]:
    top, left = (rng.integers(n - size + 1) for n in flux.shape[1:])
    crop = flux[:, top : top + size, left : left + size]
    crop = np.rot90(crop, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        crop = crop[:, :, ::-1]
    if rng.random() < chance:
        crop = blur(crop, added(SEEING, rng))
    if rng.random() < chance:
        crop = add_noise(crop, added(NOISE, rng), rng)
    return np.ascontiguousarray(crop, dtype=np.float32)


def added(distribution: Lognormal, rng: Rng) -> Float[np.ndarray, "3"]:
    """What turns a draw into another one in quadrature, 0 where the other is smaller."""
    true, final = distribution.sample(rng), distribution.sample(rng)
    return np.sqrt(np.maximum(final**2 - true**2, 0))


def add_noise(
    flux: Float[np.ndarray, "3 y x"], sigma: Float[np.ndarray, "3"], rng: Rng
) -> Float[np.ndarray, "3 y x"]:
    """White noise of `sigma` nanomaggies per pixel in each band."""
    noise = [rng.normal(0, s, flux.shape[1:]) if s > 0 else np.zeros(flux.shape[1:]) for s in sigma]
    return flux + np.stack(noise).astype(flux.dtype)


def blur(
    flux: Float[np.ndarray, "3 y x"], sigma: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 y x"]:
    """Each band convolved with a Gaussian of `sigma` pixels."""
    return np.stack(
        [gaussian_filter(f, s) if s > 0 else f for f, s in zip(flux, sigma, strict=True)]
    )
