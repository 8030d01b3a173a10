"""One block of galaxies from their seed to their survey.

Galaxies are always made in whole blocks of 128, each from its own random numbers, so galaxy i of
a seed is bitwise the same in any request and any process on machines of one kind.
"""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...units import BANDS, DESI_PIXELS, PIXEL_SCALE, desi_grid, flux_to_magnitude
from ..images import Images
from ..spectra import Spectra
from ..survey import Survey
from . import camera, spectrograph
from .gas import draw_line_luminosities, line_transmission
from .images import Neighbours, draw_neighbours, render_galaxies, render_neighbours
from .morphology import CLASSES, ELLIPTICAL, Morphology, draw_morphology
from .population import Population, draw_population
from .spectra import add_lines, draw_motions, observe, starlight
from .threads import one_thread

BLOCK = 128
RENDERED_AT_ONCE = 8  # galaxies; keeps the work inside the processor's cache
RELEASE = "v0"


class Stage(IntEnum):
    """Steps that draw random numbers, each from its own stream."""

    POPULATION = 0
    MORPHOLOGY = 1
    NEIGHBOURS = 2
    EXPOSURE = 3
    PIXELS = 4
    GAS = 5
    MOTIONS = 6
    CONDITIONS = 7
    SPECTRUM = 8
    SKY = 9


def stream(seed: int, block: int, stage: Stage) -> np.random.Generator:
    """Random numbers of one stage of one block."""
    key = np.random.SeedSequence(seed, spawn_key=(block, stage))
    return np.random.Generator(np.random.SFC64(key))


def make_block(block: int, seed: int, size: int) -> Survey:
    """Galaxies 128 × block to 128 × block + 127 of a seed, with stamps of `size` pixels."""
    with one_thread():
        galaxies = draw_population(BLOCK, stream(seed, block, Stage.POPULATION))
        shape = draw_morphology(galaxies, stream(seed, block, Stage.MORPHOLOGY))
        exposure = camera.draw_exposure(BLOCK, stream(seed, block, Stage.EXPOSURE))
        neighbours = draw_neighbours(shape.r_eff, stream(seed, block, Stage.NEIGHBOURS))
        noise = stream(seed, block, Stage.PIXELS)
        stamps, in_fibre = _photograph(galaxies, shape, neighbours, exposure, size, noise)
        flux, ivar = _disperse(galaxies, in_fibre, seed, block)
    ids = np.array([f"synthetic-{seed}-{BLOCK * block + i:09d}" for i in range(BLOCK)])
    ra, dec = _draw_positions(stream(seed, block, Stage.SKY))
    columns = _columns(galaxies, shape, exposure, in_fibre)
    return Survey(_images(ids, stamps, ra, dec), _spectra(ids, flux, ivar, ra, dec), columns)


def _photograph(
    galaxies: Population,
    shape: Morphology,
    neighbours: Neighbours,
    exposure: camera.Exposure,
    size: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "B 3 y x"], Float[np.ndarray, "B"]]:
    """Observed stamps in nanomaggies, and the fraction of the light in r inside the fibre."""
    stamps = np.empty((BLOCK, 3, size, size), np.float32)
    fibre = np.empty(BLOCK)
    for rows in _batches():
        sharp = render_galaxies(shape[rows], galaxies.flux[rows], size)
        sharp += render_neighbours(neighbours[rows], size)
        scene = camera.blur(sharp, exposure.fwhm[rows])
        fibre[rows] = camera.fibre_flux(scene)[:, 1]
        stamps[rows] = camera.add_noise(scene, exposure[rows], rng).numpy()
    return stamps, np.clip(fibre / galaxies.flux[:, 1], 0.005, 1)


def _batches() -> Iterator[slice]:
    return (slice(i, i + RENDERED_AT_ONCE) for i in range(0, BLOCK, RENDERED_AT_ONCE))


def _disperse(
    galaxies: Population, in_fibre: Float[np.ndarray, "B"], seed: int, block: int
) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Observed spectra in 1e-17 erg/s/cm²/Å and their inverse variance."""
    true = fibre_spectra(
        galaxies,
        in_fibre,
        gas=stream(seed, block, Stage.GAS),
        motions=stream(seed, block, Stage.MOTIONS),
    )
    conditions = spectrograph.draw_conditions(BLOCK, stream(seed, block, Stage.CONDITIONS))
    seen = true * spectrograph.calibration(conditions)
    variance = spectrograph.variance(seen, conditions)
    noise = spectrograph.noise(variance, stream(seed, block, Stage.SPECTRUM))
    return seen + spectrograph.sky_residual(conditions) + noise, 1 / variance


def fibre_spectra(
    galaxies: Population,
    in_fibre: Float[np.ndarray, "B"],
    gas: np.random.Generator,
    motions: np.random.Generator,
) -> Float[Tensor, "B L"]:
    """Noise-free spectra of the light in the fibre: the whole galaxy's, dimmed."""
    sigma = draw_motions(galaxies.log_mstar, motions)
    z = galaxies.redshift
    flux = observe(starlight(galaxies, sigma.stars), z, galaxies.log_mstar)
    lines = draw_line_luminosities(galaxies, gas) * line_transmission(galaxies.a_v)
    add_lines(flux, lines, z, sigma.gas)
    return flux * torch.from_numpy(in_fibre.astype(np.float32))[:, None]


def _draw_positions(
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """Right ascension and declination in degrees, even over the sky north of -20°.

    They tell nothing about a galaxy; they let a survey be split by cells of the sky.
    """
    ra = rng.uniform(0, 360, BLOCK)
    return ra, np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(-20)), 1, BLOCK)))


def _images(
    ids: np.ndarray,
    flux: Float[np.ndarray, "B 3 y x"],
    ra: Float[np.ndarray, "B"],
    dec: Float[np.ndarray, "B"],
) -> Images:
    scale, mask = np.full(len(ids), PIXEL_SCALE), np.zeros(flux.shape, bool)
    return Images(ids=ids, flux=flux, pixel_scale=scale, mask=mask, ra=ra, dec=dec)


def _spectra(
    ids: np.ndarray,
    flux: Float[Tensor, "B L"],
    ivar: Float[Tensor, "B L"],
    ra: Float[np.ndarray, "B"],
    dec: Float[np.ndarray, "B"],
) -> Spectra:
    return Spectra(
        ids=ids,
        wavelength=np.broadcast_to(desi_grid(), (len(ids), DESI_PIXELS)),
        flux=flux.numpy(),
        ivar=ivar.numpy(),
        mask=np.zeros(flux.shape, bool),
        ra=ra,
        dec=dec,
    )


def _columns(
    galaxies: Population,
    shape: Morphology,
    exposure: camera.Exposure,
    in_fibre: Float[np.ndarray, "B"],
) -> dict[str, np.ndarray]:
    n = len(in_fibre)
    columns = {
        "redshift": galaxies.redshift,
        "log_mstar": galaxies.log_mstar,
        "age": galaxies.age,
        "log_zsol": galaxies.log_zsol,
        "log_ssfr": galaxies.log_ssfr,
        "morphology": np.array(CLASSES)[shape.kind],
        "r_eff": shape.r_eff,
        "bulge_fraction": shape.bulge_fraction,
        "fibre_fraction": in_fibre,
        "a_v": galaxies.a_v,
        "inclination": np.where(shape.kind == ELLIPTICAL, np.nan, galaxies.inclination),
        "ebv": np.full(n, np.nan),
        "survey": np.full(n, "synthetic"),
        "release": np.full(n, RELEASE),
    }
    magnitudes = flux_to_magnitude(galaxies.flux)
    for b, band in enumerate(BANDS):
        columns[f"mag_{band}"] = magnitudes[:, b]
        columns[f"psf_{band}"] = exposure.fwhm[:, b]
        columns[f"depth_{band}"] = exposure.depth[:, b]
    return columns
