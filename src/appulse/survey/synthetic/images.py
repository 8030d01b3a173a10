"""Images of galaxies above the atmosphere: noise-free and sharp, in nanomaggies per pixel.

A galaxy is a sum of five parts (bulge, disk, arms, clumps, bar), each with its own colour; the
total in each band is that of the population, less what falls outside the stamp.

Shapes: B galaxies, C parts, 3 bands, y and x pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...units import PIXEL_SCALE, magnitude_to_flux
from .morphology import BARRED, DISTURBED, EDGE_ON, ELLIPTICAL, Morphology
from .profiles import bar, elliptical_radius, gaussians, sersic, sersic_enclosed, spiral_arms
from .table import Table

FIELD = 152 * PIXEL_SCALE  # arcsec; neighbours are strewn over the widest stamp
NEIGHBOURS = 10  # at most; 5.5 on average
POINT_SIGMA = 0.55 * PIXEL_SCALE  # arcsec; the sharpest that pixels can draw
LANE_DEPTH = (0.55, 0.4, 0.0)  # of a dust lane in g, r, z
# By how much bulge, bar, clumps and arms are redder or bluer than the disk in g, r, z.
REDDER = np.array([1.0, 0.0, -0.5])
BLUER = np.array([-1.0, 0.0, 0.6])

Stamps = Float[Tensor, "B 3 y x"]
Plane = Float[Tensor, "B y x"]


@dataclass(frozen=True, eq=False)
class Neighbours(Table):
    """Other sources in the field: place in arcsec, size (Gaussian σ) in arcsec, nanomaggies."""

    x: Float[np.ndarray, "B K"]
    y: Float[np.ndarray, "B K"]
    sigma: Float[np.ndarray, "B K"]
    flux: Float[np.ndarray, "B 3 K"]


def draw_neighbours(r_eff: Float[np.ndarray, "B"], rng: np.random.Generator) -> Neighbours:
    """Stars and small galaxies of r = 20 to 23.6, outside the galaxy itself; ad hoc counts."""
    shape = (len(r_eff), NEIGHBOURS)
    x, y = rng.uniform(-FIELD / 2, FIELD / 2, (2, *shape))
    present = (rng.random(shape) < 0.55) & (np.hypot(x, y) > 2.2 * r_eff[:, None] + 2)
    r = 20 + 3.6 * rng.random(shape) ** 0.6
    star = rng.random(shape) < 0.35
    sigma = np.where(star, 0.05, rng.uniform(0.3, 0.9, shape))
    g, z = r + rng.normal(0.9, 0.4, shape), r - rng.normal(0.45, 0.25, shape)
    flux = magnitude_to_flux(np.stack([g, r, z], axis=1)) * present[:, None]
    return Neighbours(x=x, y=y, sigma=np.maximum(sigma, POINT_SIGMA), flux=flux)


def render_galaxies(shape: Morphology, flux: Float[np.ndarray, "B 3"], size: int) -> Stamps:
    """Images of galaxies with total `flux` in nanomaggies, on stamps of `size` pixels."""
    u, v = _galaxy_plane(shape, size)
    radius = elliptical_radius(u, v, _column(shape.disk_ratio), 0.15 * PIXEL_SCALE)
    parts, arm_share = _parts(shape, u, v, radius)
    weight = _tensor(_colours(shape, arm_share) * flux[:, None])
    # Parts are drawn to an arbitrary scale; here each gets its share of the flux.
    scale = weight / (_totals(parts, shape) + 1e-12)[:, :, None]
    image = (scale.transpose(1, 2) @ parts.flatten(2)).unflatten(2, (size, size))
    _add_dust_lanes(image, shape, v, radius)
    return image


def render_points(
    x: Float[np.ndarray, "B"], y: Float[np.ndarray, "B"], flux: Float[np.ndarray, "B 3"], size: int
) -> Stamps:
    """Images of one point source each, at x and y arcsec from the middle of the stamp."""
    sigma = np.full((len(x), 1), POINT_SIGMA)
    return render_neighbours(Neighbours(x[:, None], y[:, None], sigma, flux[..., None]), size)


def render_neighbours(neighbours: Neighbours, size: int) -> Stamps:
    """Images of what else is in the stamp."""
    x, y, sigma = (_tensor(a) for a in (neighbours.x, neighbours.y, neighbours.sigma))
    axis, flux = _axis(size), _tensor(neighbours.flux * PIXEL_SCALE**2)
    return torch.stack([gaussians(axis, x, y, sigma, flux[:, b]) for b in range(3)], dim=1)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _column(values: Float[np.ndarray, "B"]) -> Float[Tensor, "B 1 1"]:
    return _tensor(values)[:, None, None]


def _axis(size: int) -> Float[Tensor, "N"]:
    """Arcsec from the middle of the stamp."""
    return (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * PIXEL_SCALE


def _galaxy_plane(shape: Morphology, size: int) -> tuple[Plane, Plane]:
    """Arcsec along the major and minor axis."""
    axis = _axis(size)
    x, y = axis - _column(shape.center_x), axis[:, None] - _column(shape.center_y)
    cos, sin = _column(np.cos(shape.angle)), _column(np.sin(shape.angle))
    return x * cos + y * sin, y * cos - x * sin


def _parts(
    shape: Morphology, u: Plane, v: Plane, radius: Plane
) -> tuple[Float[Tensor, "B C y x"], Float[np.ndarray, "B"]]:
    """Bulge, disk, arms, clumps and bar, and the share of the disk's light in the arms."""
    armed, barred, merging = (
        np.flatnonzero(is_so)
        for is_so in (shape.arm_amplitude > 0, shape.kind == BARRED, shape.kind == DISTURBED)
    )
    bulge_radius = elliptical_radius(u, v, _column(shape.bulge_ratio), 0.3 * PIXEL_SCALE)
    disk = torch.exp(-radius / _column(shape.disk_scale))
    parts = torch.zeros(len(u), 5, *u.shape[1:])
    parts[:, 0] = sersic(bulge_radius, _column(shape.bulge_r_eff), _column(shape.sersic))
    parts[:, 1] = disk
    parts[armed, 2] = disk[armed] * _arms(shape[armed], u[armed], v[armed], radius[armed])
    parts[:, 3] = _clumps(shape, u.shape[1])
    parts[barred, 4] = _bar(shape[barred], u[barred], v[barred])
    light = parts[:, 1:3].sum((2, 3)).numpy()
    parts[merging, 1] = _disturbed(
        shape[merging], disk[merging], u[merging], v[merging], radius[merging]
    )
    return parts, np.clip(light[:, 1] / light.sum(1), 0, 0.6)


def _arms(shape: Morphology, u: Plane, v: Plane, radius: Plane) -> Plane:
    azimuth = torch.atan2(v / _column(shape.disk_ratio), u) * _column(shape.handed)
    contrast = spiral_arms(
        radius / _column(shape.disk_scale),
        azimuth,
        _column(shape.arms),
        _column(shape.pitch),
        _column(shape.arm_phase),
        _column(shape.arm_start),
    )
    return contrast * _column(shape.arm_amplitude)


def _bar(shape: Morphology, u: Plane, v: Plane) -> Plane:
    length = 1.15 * shape.disk_scale
    width = 0.27 * shape.disk_scale * np.clip(shape.disk_ratio, 0.4, 1)
    return bar(u, v, _column(length), _column(width))


def _clumps(shape: Morphology, size: int) -> Plane:
    """Star-forming regions, projected with the disk."""
    cos, sin = np.cos(shape.angle)[:, None], np.sin(shape.angle)[:, None]
    u, v = shape.clump_x, shape.clump_y * shape.disk_ratio[:, None]
    x = u * cos - v * sin + shape.center_x[:, None]
    y = u * sin + v * cos + shape.center_y[:, None]
    sigma = np.broadcast_to(np.clip(0.12 * shape.disk_scale, 0.12, 1.2)[:, None], x.shape)
    flux = shape.clump_flux * PIXEL_SCALE**2
    return gaussians(_axis(size), *(_tensor(a) for a in (x, y, sigma, flux)))


def _disturbed(shape: Morphology, disk: Plane, u: Plane, v: Plane, radius: Plane) -> Plane:
    """A lopsided disk with a companion and a tidal tail."""
    scale, direction = _column(shape.disk_scale), _column(shape.companion_angle)
    azimuth, reach = torch.atan2(v / _column(shape.disk_ratio), u), radius / scale
    lopsided = (1 + 0.6 * torch.cos(azimuth - direction) * torch.tanh(reach)).clamp(min=0.1)
    du = u - _column(shape.companion_distance) * torch.cos(direction)
    dv = v - _column(shape.companion_distance) * torch.sin(direction)
    companion = torch.exp(-torch.sqrt(du**2 + (dv / 0.75) ** 2 + 0.01) / (0.55 * scale))
    ring = torch.exp(-(((reach - _column(shape.tail_radius)) / 0.45) ** 2))
    tail = 0.05 * ring * torch.exp(2 * (torch.cos(azimuth - direction - 1.2) - 1))
    return disk * lopsided + 1.5 * _column(shape.companion_flux) * companion + tail


def _colours(shape: Morphology, arm_share: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B C 3"]:
    """Share of each part in each band's flux; a band's shares sum to 1."""
    bulge, bar_share = shape.bulge_fraction, shape.bar_fraction
    clumps = 0.10 * shape.star_formation * (shape.kind != ELLIPTICAL)
    disk = (1 - bulge) * (1 - bar_share)
    shares = np.stack(
        [
            bulge,
            disk * np.clip(1 - clumps - arm_share, 0.05, 1),
            disk * arm_share,
            disk * clumps,
            (1 - bulge) * bar_share,
        ],
        axis=1,
    )
    fainter = np.zeros((len(bulge), 5, 3))  # mag
    fainter[:, 0] = shape.reddening_gradient[:, None] * REDDER
    fainter[:, 2:] = np.array([0.22 * BLUER, 0.45 * BLUER, 0.10 * REDDER])
    weight = shares[:, :, None] * 10 ** (-0.4 * fainter)
    return weight / weight.sum(axis=1, keepdims=True)


def _totals(parts: Float[Tensor, "B C y x"], shape: Morphology) -> Float[Tensor, "B C"]:
    """What each part would sum to on an endless stamp, taking this one as a circle of its area."""
    reach = parts.shape[-1] * PIXEL_SCALE / np.sqrt(np.pi)
    bulge_reach, disk_reach = (reach / np.sqrt(q) for q in (shape.bulge_ratio, shape.disk_ratio))
    r_eff = 1.678 * shape.disk_scale
    bulge = sersic_enclosed(bulge_reach, shape.bulge_r_eff, shape.sersic)
    disk = sersic_enclosed(disk_reach, r_eff, np.ones_like(r_eff))
    totals = parts.sum((2, 3)) / _tensor(np.stack([bulge, disk, disk, disk, disk], axis=1))
    totals[:, 3] = _tensor(shape.clump_flux.sum(1))  # known, even if all lie off the stamp
    return totals


def _add_dust_lanes(image: Stamps, shape: Morphology, v: Plane, radius: Plane) -> None:
    """Moves light of edge-on disks out of a lane along the major axis; the total stays."""
    dusty = np.flatnonzero(shape.kind == EDGE_ON)
    scale = _column(shape.disk_scale[dusty])
    where = torch.exp(-((v[dusty] / (0.06 * scale)) ** 2) - radius[dusty] / (2 * scale))
    depth = _tensor(shape.lane[dusty, None] * np.array(LANE_DEPTH))
    lit = image[dusty]
    dimmed = lit * (1 - depth[..., None, None] * where[:, None])
    image[dusty] = dimmed * (lit.sum((2, 3)) / dimmed.sum((2, 3)))[..., None, None]
