"""The Legacy Surveys viewer's colours: nanomaggies to red, green, blue, and back.

The arcsinh stretch of Lupton et al. (2004) with the viewer's DR9 settings; the AstroCLIP image
encoder was trained on it.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from .images import Images

# Planes are z, r, g: the viewer shows the reddest band as red.
SCALES = np.array([2.2, 3.4, 6.0], dtype=np.float32)[:, None, None]
OFFSET = 0.03
Q = 20.0
DARK = 1e-30  # keeps black from being 0 / 0
_SATURATED = 1 - 0.5 / 255  # rounds to 255 in 8 bits


def to_rgb(flux: Float[np.ndarray, "*B 3 y x"]) -> Float[np.ndarray, "*B 3 y x"]:
    """Red, green and blue in [0, 1] of g, r, z in nanomaggies per 0.262″ pixel."""
    rgb = np.empty(flux.shape, np.result_type(flux, np.float32))
    room = np.empty(flux.shape[-3:], rgb.dtype)
    for row in np.ndindex(flux.shape[:-3]):  # one at a time stays in the processor's cache
        _stretch(flux[row], rgb[row], room)
    return rgb


def _stretch(
    flux: Float[np.ndarray, "3 y x"],
    light: Float[np.ndarray, "3 y x"],
    room: Float[np.ndarray, "3 y x"],
) -> None:
    """The same of one image, into `light`; what is in `room` is lost."""
    np.multiply(flux[::-1], SCALES, out=light)
    light += OFFSET
    x, green, blue = np.clip(light, 0, np.inf, out=room)  # twice as fast as np.maximum
    x += green
    x += blue
    x *= Q / 3  # Q times the intensity
    gain = np.arcsinh(x, out=green)
    gain /= np.maximum(x, DARK)
    gain *= Q**0.5
    light *= gain
    np.clip(light, 0, 1, out=light)


def to_flux(images: Images) -> Images:
    """The nanomaggies behind images of `kind="rgb"`; fluxes are returned as they are.

    Exact where no channel is clipped: the mean of the three channels is the stretched
    intensity, which gives the intensity. Pixels with a channel at its maximum become masked. A
    channel at 0 only bounds its band: it becomes the flux at which the viewer shows black,
    −0.005 to −0.014 nanomaggies. JPEG keeps 8 bits, so expect some per cent of error, and more
    in the faint wings.
    """
    if images.kind == "flux":
        return images
    rgb = images.flux
    stretched = rgb.mean(axis=1, keepdims=True) * Q**0.5
    light = rgb * _sinh_ratio(stretched) / Q**0.5
    flux = ((light - OFFSET) / SCALES)[:, ::-1]
    saturated = (rgb >= _SATURATED).any(axis=1, keepdims=True)
    mask = images.mask | saturated
    return replace(images, flux=np.where(mask, 0, flux).astype(np.float32), mask=mask, kind="flux")


def _sinh_ratio(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """sinh(x) / x, which is 1 at 0."""
    return np.where(x > 0, np.sinh(x) / np.where(x > 0, x, 1), 1)
