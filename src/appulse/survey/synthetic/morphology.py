"""Looks of galaxies: class, size, and the shape of every part that an image shows.

Classes follow the split of Galaxy Zoo (Willett et al. 2013) in the coarse; sizes follow van der
Wel et al. (2014) and Shen et al. (2003). Fractions, scatters and the numbers of arms, clumps and
companions are ad hoc.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...units import PIXEL_SCALE
from . import cosmology
from .population import Population
from .table import Table

CLASSES = ("elliptical", "smooth disk", "spiral", "barred", "edge-on", "disturbed")
ELLIPTICAL, SMOOTH, SPIRAL, BARRED, EDGE_ON, DISTURBED = range(6)
CLUMPS = 8
# Half-light radius along the major axis: log10 kpc at log M = 10.75 of mass formed, growth in
# dex/dex; scatter in dex; power of 1 + z.
DEAD_SIZE, ALIVE_SIZE = (0.60, 0.62), (0.775, 0.22)
SIZE_SCATTER, SIZE_EVOLUTION = 0.16, -0.7
MERGERS = (0.04, 0.10)  # share of quiescent and of star-forming galaxies
ALIVE_KINDS = (0.62, 0.20)  # share of spiral and of barred among star-forming galaxies
THICKNESS, SMOOTH_THICKNESS = 0.10, 0.3  # of disks and of smooth ones, minor over major axis
EDGE_ON_COSINE = 0.22  # of the inclination, below which a disk is seen on edge
LEAST_ROUND, ROUNDNESS = 0.35, (4.5, 1.8)  # axis ratio of ellipticals; beta distribution from there
BULGE_RATIO, EDGE_ON_BULGE = 0.75, 0.6  # axis ratio of bulges, and of those of disks on edge

Galaxies = Float[np.ndarray, "B"]


@dataclass(frozen=True, eq=False)
class Morphology(Table):
    """Shape of each galaxy; lengths in arcsec, angles in radian.

    Attributes:
        kind: Index into `CLASSES`.
        r_eff: Half-light radius along the major axis that sets all other lengths.
        bulge_fraction: Share of the light in r that is in the bulge.
        center_x, center_y: Offset from the middle of the stamp, up to a quarter pixel.
        angle: Position angle of the major axis, from +x towards +y.
        disk_ratio, bulge_ratio: Minor over major axis.
        sersic: Sérsic (1968) index of the bulge.
        bulge_r_eff, disk_scale: Half-light radius; exponential scale length.
        arms, pitch, arm_phase, handed, arm_amplitude, arm_start: Logarithmic spiral;
            amplitude 0 means none, start is in scale lengths.
        bar_fraction: Share of the disk's light in the bar.
        star_formation: 0 in dead galaxies, 1.2 in the most active: light in clumps.
        clump_x, clump_y, clump_flux: Along major and minor axis, and relative brightness.
        companion_angle, companion_distance, companion_flux, tail_radius: Of a merger; the tail
            is in scale lengths.
        reddening_gradient: By how many mag in g - r the bulge is redder than the disk, about.
        lane: Depth of the dust lane of an edge-on disk in g, 0 to 1 times .55.
    """

    kind: Int[np.ndarray, "B"]
    r_eff: Galaxies
    bulge_fraction: Galaxies
    center_x: Galaxies
    center_y: Galaxies
    angle: Galaxies
    disk_ratio: Galaxies
    bulge_ratio: Galaxies
    sersic: Galaxies
    bulge_r_eff: Galaxies
    disk_scale: Galaxies
    arms: Galaxies
    pitch: Galaxies
    arm_phase: Galaxies
    handed: Galaxies
    arm_amplitude: Galaxies
    arm_start: Galaxies
    bar_fraction: Galaxies
    star_formation: Galaxies
    clump_x: Float[np.ndarray, "B K"]
    clump_y: Float[np.ndarray, "B K"]
    clump_flux: Float[np.ndarray, "B K"]
    companion_angle: Galaxies
    companion_distance: Galaxies
    companion_flux: Galaxies
    tail_radius: Galaxies
    reddening_gradient: Galaxies
    lane: Galaxies


def draw_morphology(galaxies: Population, rng: np.random.Generator) -> Morphology:
    """Looks that fit mass, star formation and inclination of each galaxy."""
    n = len(galaxies.redshift)
    kind = _draw_kind(galaxies, rng)
    r_eff = _draw_size(galaxies, rng)
    scale = r_eff / 1.678 * 1.15 * np.where(kind == EDGE_ON, 1.25, 1)
    star_formation = np.clip((galaxies.log_ssfr_recent + 11) / 1.2, 0, 1.2)
    elliptical = kind == ELLIPTICAL
    spheroid = LEAST_ROUND + (1 - LEAST_ROUND) * rng.beta(*ROUNDNESS, n)
    return Morphology(
        kind=kind,
        r_eff=r_eff,
        bulge_fraction=_draw_bulge(kind, galaxies.log_mstar, rng),
        center_x=rng.uniform(-PIXEL_SCALE / 4, PIXEL_SCALE / 4, n),
        center_y=rng.uniform(-PIXEL_SCALE / 4, PIXEL_SCALE / 4, n),
        angle=rng.uniform(0, np.pi, n),
        disk_ratio=np.where(elliptical, spheroid, _disk_ratio(galaxies.inclination, kind)),
        bulge_ratio=np.select(
            [elliptical, kind == EDGE_ON], [spheroid, EDGE_ON_BULGE], BULGE_RATIO
        ),
        sersic=np.where(elliptical, _draw_sersic(galaxies.log_mstar, rng), 2),
        bulge_r_eff=np.where(elliptical, r_eff, 0.28 * r_eff),
        disk_scale=scale,
        reddening_gradient=np.where(elliptical, 0, rng.normal(0.16, 0.06, n)),
        lane=np.where(kind == EDGE_ON, np.clip(galaxies.a_v, 0, 1), 0),
        star_formation=star_formation,
        **_draw_arms(kind, rng),
        **_draw_clumps(scale, star_formation, rng),
        **_draw_companion(r_eff, rng),
    )


def _draw_kind(galaxies: Population, rng: np.random.Generator) -> Int[np.ndarray, "B"]:
    n = len(galaxies.redshift)
    u = rng.random(n)
    dead = np.where(u < 0.68 + 0.15 * (galaxies.log_mstar - 10.7), ELLIPTICAL, SMOOTH)
    alive = np.select([u < ALIVE_KINDS[0], u < sum(ALIVE_KINDS)], [SPIRAL, BARRED], SMOOTH)
    kind = np.where(galaxies.quiescent, dead, alive)
    on_edge = np.cos(galaxies.inclination) < EDGE_ON_COSINE
    kind = np.where(on_edge & (kind != ELLIPTICAL), EDGE_ON, kind)
    merging = rng.random(n) < np.where(galaxies.quiescent, *MERGERS)
    return np.where(merging, DISTURBED, kind)


def _draw_bulge(
    kind: Int[np.ndarray, "B"], log_mass: Galaxies, rng: np.random.Generator
) -> Galaxies:
    special = [kind == ELLIPTICAL, kind == SMOOTH, kind == DISTURBED]
    mean = np.select(special, [0.85, 0.35, 0.3], 0.05 + 0.14 * np.clip(log_mass - 9.2, 0, 3))
    scatter = np.select(special, [0.1, 0.15, 0.15], 0.08)
    return np.clip(mean + scatter * rng.standard_normal(len(kind)), 0.02, 1)


def _draw_size(galaxies: Population, rng: np.random.Generator) -> Galaxies:
    """Half-light radius in arcsec: steep with mass for dead galaxies, shallow for disks."""
    above = galaxies.log_mstar - 10.75
    dead, alive = (at_pivot + slope * above for at_pivot, slope in (DEAD_SIZE, ALIVE_SIZE))
    scatter = SIZE_SCATTER * rng.standard_normal(len(galaxies.redshift))
    kpc = 10 ** (np.where(galaxies.quiescent, dead, alive) + scatter)
    kpc *= (1 + galaxies.redshift) ** SIZE_EVOLUTION
    return np.clip(kpc, 0.4, 40) / cosmology.kpc_per_arcsec(galaxies.redshift)


def _disk_ratio(inclination: Galaxies, kind: Int[np.ndarray, "B"]) -> Galaxies:
    """Projected axis ratio of an oblate disk (Hubble 1926)."""
    thickness = np.where(kind == SMOOTH, SMOOTH_THICKNESS, THICKNESS)
    return np.sqrt(thickness**2 + (1 - thickness**2) * np.cos(inclination) ** 2)


def _draw_sersic(log_mass: Galaxies, rng: np.random.Generator) -> Galaxies:
    scatter = 0.5 * rng.standard_normal(len(log_mass))
    return np.clip(2.2 + 1.3 * (log_mass - 10) + scatter, 1.5, 6)


def _draw_arms(kind: Int[np.ndarray, "B"], rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = len(kind)
    barred, armed = kind == BARRED, np.isin(kind, (SPIRAL, BARRED))
    strength = rng.uniform(0.6, 1.5, n)
    return {
        "arms": rng.choice([2.0, 2.0, 2.0, 3.0, 4.0], n),
        "pitch": np.radians(rng.uniform(10, 32, n)),
        "arm_phase": rng.uniform(0, 2 * np.pi, n),
        "handed": rng.choice([-1.0, 1.0], n),
        "arm_amplitude": np.select([armed, kind == DISTURBED], [strength, 0.25], 0),
        "arm_start": np.where(barred, 0.9, 0.35),
        "bar_fraction": np.where(barred, rng.uniform(0.1, 0.2, n), 0),
    }


def _draw_clumps(
    scale: Galaxies, star_formation: Galaxies, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    shape = (len(scale), CLUMPS)
    radius = scale[:, None] * rng.gamma(2, 0.75, shape)
    angle = rng.uniform(0, 2 * np.pi, shape)
    flux = star_formation[:, None] * rng.lognormal(-1, 0.7, shape)
    return {
        "clump_x": radius * np.cos(angle),
        "clump_y": radius * np.sin(angle),
        "clump_flux": flux * np.exp(-radius / scale[:, None]),
    }


def _draw_companion(r_eff: Galaxies, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = len(r_eff)
    return {
        "companion_angle": rng.uniform(0, 2 * np.pi, n),
        "companion_distance": r_eff * rng.uniform(1.2, 3.2, n),
        "companion_flux": rng.uniform(0.15, 0.8, n),
        "tail_radius": rng.uniform(2, 3.5, n),
    }
