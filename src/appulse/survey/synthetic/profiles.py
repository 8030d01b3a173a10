"""Light profiles on pixels: surface brightness of each part of a galaxy, arbitrary scale.

Shapes: B galaxies, y and x pixels. Lengths are in arcsec. Parameters have shape (B, 1, 1).
"""

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammainc
from torch import Tensor

Plane = Float[Tensor, "B y x"]
Parameter = Float[Tensor, "B 1 1"]
Number = TypeVar("Number", Tensor, np.ndarray)


def elliptical_radius(u: Plane, v: Plane, ratio: Parameter, softening: float) -> Plane:
    """Distance from the centre along the major axis; `softening` rounds the central pixel."""
    return torch.sqrt(u**2 + (v / ratio) ** 2 + softening**2)


def sersic(radius: Plane, r_eff: Parameter, index: Parameter) -> Plane:
    """Sérsic (1968) profile, 1 at the half-light radius."""
    steps = torch.exp(torch.log(radius / r_eff) / index) - 1
    return torch.exp(-sersic_b(index) * steps)


def sersic_b(index: Number) -> Number:
    """Coefficient b that puts half of the light inside r_eff (Ciotti & Bertin 1999)."""
    return 2 * index - 1 / 3 + 4 / (405 * index)


def sersic_enclosed(
    radius: Float[np.ndarray, "B"], r_eff: Float[np.ndarray, "B"], index: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B"]:
    """Fraction of a Sérsic profile's light inside a radius (Graham & Driver 2005, eq. 2)."""
    return gammainc(2 * index, sersic_b(index) * (radius / r_eff) ** (1 / index))


def spiral_arms(
    radius: Plane,
    azimuth: Plane,
    arms: Parameter,
    pitch: Parameter,
    phase: Parameter,
    start: Parameter,
) -> Plane:
    """Contrast of logarithmic arms over an exponential disk; `radius` is in scale lengths."""
    turn = arms * (azimuth - torch.log(radius + 0.05) / torch.tan(pitch)) + phase
    crest = torch.exp(2.2 * (torch.cos(turn) - 1))
    return 2.2 * crest * torch.sigmoid(6 * (radius - start))


def bar(u: Plane, v: Plane, length: Parameter, width: Parameter) -> Plane:
    """A flat bar with soft ends."""
    return torch.exp(-((u / length) ** 4) - (v / width) ** 2)


def gaussians(
    axis: Float[Tensor, "N"],
    x: Float[Tensor, "B K"],
    y: Float[Tensor, "B K"],
    sigma: Float[Tensor, "B K"],
    flux: Float[Tensor, "B K"],
) -> Plane:
    """Sum of K round Gaussians per galaxy on a square grid, by products of columns and rows.

    `flux` is the flux of each, per unit of the pixel's area in arcsec².
    """
    along_x = torch.exp(-(((axis - x[..., None]) / sigma[..., None]) ** 2) / 2)
    along_y = torch.exp(-(((axis - y[..., None]) / sigma[..., None]) ** 2) / 2)
    peak = flux / (2 * torch.pi * sigma**2)
    return (along_y * peak[..., None]).transpose(1, 2) @ along_x
