"""From cutouts to what an image tower reads.

Shapes: B images, F features; y and x are pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..survey.images import Images
from ..survey.photometry import APERTURES, SOFTENING, aperture_fluxes
from ..survey.resample import fit, to_scale
from ..survey.rgb import DARK, OFFSET, SCALES, Q, to_flux, to_rgb

FEATURES = 3 * len(APERTURES)
SETTINGS = {"apertures": APERTURES, "softening": SOFTENING}  # part of a model's hash


class ImageInputs(NamedTuple):
    """What an image tower takes, one row a galaxy."""

    flux: Float[Tensor, "B 3 y x"]  # nanomaggies, or the viewer's red, green, blue; none masked
    mask: Bool[Tensor, "B 3 y x"]
    pixel_scale: Float[Tensor, "B"]  # arcsec
    features: Float[Tensor, "B F"]  # arcsinh of aperture fluxes; F is 0 for pictures


def to_nanomaggies(images: Images) -> Images:
    """Flux in pixels of 0.262″, whatever a survey or a file holds."""
    return to_scale(to_flux(images))


def image_flux(images: Images) -> Float[Tensor, "B 3 y x"]:
    """Nanomaggies per pixel of 0.262″, masked ones interpolated."""
    return torch.from_numpy(np.ascontiguousarray(to_nanomaggies(images).filled()))


def pictures(flux: Float[Tensor, "*B 3 y x"]) -> Float[Tensor, "*B 3 y x"]:
    """What `survey.rgb.to_rgb` makes of arrays, of tensors on any device."""
    light = flux.flip(-3) * torch.tensor(SCALES).to(flux) + OFFSET
    intensity = Q / 3 * light.clamp(min=0).sum(-3, keepdim=True)
    gain = Q**0.5 * intensity.asinh() / intensity.clamp(min=DARK)
    return (gain * light).clamp(0, 1)


def prepare(images: Images, size: int) -> ImageInputs:
    """Cutouts of `size` pixels at 0.262″ with aperture fluxes; RGB is turned back into flux."""
    images = to_nanomaggies(images)
    features = np.arcsinh(aperture_fluxes(images) / SOFTENING).reshape(len(images), -1)
    images = fit(images, size)
    return _inputs(images.filled(), images, features)


def prepare_picture(images: Images, size: int) -> ImageInputs:
    """Cutouts of `size` pixels at 0.262″ as the viewer shows them; padding looks like the sky."""
    images = fit(to_scale(images), size)
    picture = images.filled()
    if images.kind == "flux":
        picture = to_rgb(picture)
    elif images.mask.any():
        sky = to_rgb(np.zeros((3, 1, 1), dtype=np.float32))
        picture = np.where(images.mask & (picture == 0), sky, picture)
    return _inputs(picture, images, np.zeros((len(images), 0)))


def _inputs(
    flux: Float[np.ndarray, "B 3 y x"], images: Images, features: Float[np.ndarray, "B F"]
) -> ImageInputs:
    return ImageInputs(
        torch.from_numpy(np.ascontiguousarray(flux)),
        torch.from_numpy(np.ascontiguousarray(images.mask)),
        torch.from_numpy(images.pixel_scale.astype(np.float32)),
        torch.from_numpy(features.astype(np.float32)),
    )


def random_dihedral(inputs: ImageInputs) -> ImageInputs:
    """The whole batch turned by a random multiple of 90° and perhaps flipped.

    Aperture fluxes stay: circles do not change.
    """
    turns, flip = int(torch.randint(4, ())), bool(torch.randint(2, ()))
    flux, mask = (torch.rot90(x, turns, (2, 3)) for x in (inputs.flux, inputs.mask))
    if flip:
        flux, mask = flux.flip(3), mask.flip(3)
    return inputs._replace(flux=flux, mask=mask)
