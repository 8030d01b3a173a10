"""What is measured on a picture of a galaxy without learning: ten numbers."""

import numpy as np
from jaxtyping import Float
from torch import Tensor


def hand_features(pictures: Float[Tensor, "B 3 y x"]) -> Float[np.ndarray, "B 10"]:
    """Two colours, size, concentration, axis ratio, asymmetry, Gini, M20, roughness, area."""
    return np.array([_measured(picture.numpy()) for picture in pictures])


def _measured(rgb: Float[np.ndarray, "3 y x"]) -> list[float]:
    middle = rgb.shape[-1] // 2
    half = middle // 2
    red, green, blue = rgb[:, middle - half : middle + half, middle - half : middle + half]
    light = np.clip((red + green + blue) / 3, 0, None)
    place = np.arange(2 * half) - half + 0.5
    y, x = np.meshgrid(place, place, indexing="ij")
    total = light.sum() + 1e-9
    inside = light > 0.1
    sums = [plane[inside].sum() + 1e-3 for plane in (red, green, blue)]
    radius = np.hypot(x, y)
    order = np.argsort(radius.ravel())
    growth = np.cumsum(light.ravel()[order]) / total
    r20, r50, r80 = (radius.ravel()[order][np.searchsorted(growth, q)] for q in (0.2, 0.5, 0.8))
    bright = light * inside
    weight = bright.sum() + 1e-9
    xx, yy, xy = ((bright * m).sum() / weight for m in (x * x, y * y, x * y))
    spread = np.hypot(xx - yy, 2 * xy)
    axis_ratio = np.sqrt(max(xx + yy - spread, 0) / (xx + yy + spread + 1e-9))
    asymmetry = np.abs(light - light[::-1, ::-1]).sum() / total
    pixels = np.sort(bright[inside]) if inside.any() else np.ones(1)
    rank = 2 * np.arange(1, len(pixels) + 1) - len(pixels) - 1
    gini = (rank * pixels).sum() / (pixels.mean() * len(pixels) * max(len(pixels) - 1, 1))
    moment = (bright * radius**2).ravel()
    brightest = np.argsort(-bright.ravel())
    top = brightest[np.cumsum(bright.ravel()[brightest]) <= 0.2 * weight]
    m20 = np.log10((moment[top].sum() + 1e-6) / (moment.sum() + 1e-6))
    rough = np.abs(light[1:-1, 1:-1] - (light[:-2, 1:-1] + light[2:, 1:-1]) / 2).sum() / total
    colours = [np.log(sums[0] / sums[1]), np.log(sums[1] / sums[2])]
    return [*colours, r50, np.log(r80 / max(r20, 0.5)), axis_ratio, asymmetry, gini, m20, rough,
            float(inside.mean())]  # fmt: skip
