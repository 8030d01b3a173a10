"""One block of targets from their seed to their survey.

Targets are always made in whole blocks of 128, each from its own random numbers, so target i of
a seed is bitwise the same in any request and any process on machines of one kind.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...units import DESI_PIXELS, PIXEL_SCALE, desi_grid
from ..images import Images
from ..spectra import Spectra
from ..survey import Survey
from . import camera, labels, milkyway, spectrograph
from .gas import draw_line_luminosities, line_transmission
from .images import Stamps, draw_neighbours, render_galaxies, render_neighbours, render_points
from .morphology import draw_morphology
from .points import Points, draw_stars
from .population import Population, draw_population
from .quasars import draw_quasars
from .spectra import add_lines, draw_motions, observe, starlight
from .streams import Stage, Streams, stream
from .targets import (
    BRIGHT_TIME,
    DARK_TIME,
    GALAXIES,
    TRACERS,
    SurveyPopulation,
    Tracer,
    draw_tracers,
)
from .threads import one_thread

BLOCK = 128
RENDERED_AT_ONCE = 8  # galaxies; keeps the work inside the processor's cache


class Sites(NamedTuple):
    """Where targets lie, and what they are seen through."""

    ra: Float[np.ndarray, "B"]
    dec: Float[np.ndarray, "B"]
    ebv: Float[np.ndarray, "B"]
    fibre: Float[np.ndarray, "B 2"]
    exposure: camera.Exposure

    def of(self, rows: Int[np.ndarray, "N"]) -> "Sites":
        """Those of some rows."""
        return Sites(
            self.ra[rows], self.dec[rows], self.ebv[rows], self.fibre[rows], self.exposure[rows]
        )


class Observation(NamedTuple):
    """What is recorded of targets: stamps, spectra, labels."""

    stamps: Float[np.ndarray, "B 3 y x"]
    flux: Float[np.ndarray, "B L"]
    ivar: Float[np.ndarray, "B L"]
    columns: dict[str, np.ndarray]


def make_block(block: int, seed: int, size: int, population: SurveyPopulation = "bgs") -> Survey:
    """Targets 128 × block to 128 × block + 127 of a seed, with stamps of `size` pixels."""
    sites = _draw_sites(seed, block)
    tracers = draw_tracers(population, BLOCK, stream(seed, block, Stage.TRACER))
    kinds = [name for name in TRACERS if (tracers == name).any()]
    rows = [np.flatnonzero(tracers == name) for name in kinds]
    with one_thread():
        parts = [
            _observe(name, sites.of(where), size, partial(stream, seed, block, tracer=name))
            for name, where in zip(kinds, rows, strict=True)
        ]
    order = np.argsort(np.concatenate(rows))
    stamps, flux, ivar = (np.concatenate([part[k] for part in parts])[order] for k in range(3))
    columns = labels.joined([part.columns for part in parts], order)
    name = name_of(seed, population)
    ids = np.array([f"{name}-{BLOCK * block + i:09d}" for i in range(BLOCK)])
    return Survey(_images(ids, stamps, sites), _spectra(ids, flux, ivar, sites), columns)


def name_of(seed: int, population: SurveyPopulation) -> str:
    """What the ids of a universe begin with; a number follows."""
    return f"synthetic-{seed}" if population == "bgs" else f"synthetic-{population}-{seed}"


def number_of(target: str, seed: int, population: SurveyPopulation) -> int:
    """Which target of a universe has this id.

    Raises:
        ValueError: If it is of another universe.
    """
    name, _, number = target.rpartition("-")
    if name != name_of(seed, population):
        raise ValueError(
            f"{target} is there, not seed {seed} of {population}; choose another folder"
        )
    return int(number)


def _draw_sites(seed: int, block: int) -> Sites:
    """Positions even over the sky north of -20°, and seeing and dust there.

    Positions tell nothing about a target; they let a survey be split by cells of the sky.
    """
    rng = stream(seed, block, Stage.SKY)
    ra = rng.uniform(0, 360, BLOCK)
    dec = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(-20)), 1, BLOCK)))
    ebv = milkyway.draw_reddening(BLOCK, rng)
    fibre = camera.FIBRE_OFFSET * rng.standard_normal((BLOCK, 2))
    exposure = camera.draw_exposure(dec, stream(seed, block, Stage.EXPOSURE))
    return Sites(ra, dec, ebv, fibre, exposure)


def _observe(tracer: Tracer, sites: Sites, size: int, rng: Streams) -> Observation:
    """Targets of one class, drawn and observed."""
    observe_class = _observe_galaxies if tracer in GALAXIES else _observe_points
    return observe_class(tracer, sites, size, rng)


def _observe_galaxies(tracer: Tracer, sites: Sites, size: int, rng: Streams) -> Observation:
    n = len(sites.ra)
    galaxies = draw_population(n, rng(Stage.POPULATION), GALAXIES[tracer])
    shape = draw_morphology(galaxies, rng(Stage.MORPHOLOGY))
    neighbours = draw_neighbours(shape.r_eff, rng(Stage.NEIGHBOURS))
    seen = galaxies.flux * milkyway.band_transmission(sites.ebv)

    def scene(rows: slice) -> Stamps:
        sharp = render_galaxies(shape[rows], seen[rows], size)
        return sharp + render_neighbours(neighbours[rows], size)

    stamps, in_fibre = _photograph(scene, seen[:, 1], sites, size, rng(Stage.PIXELS))
    true = fibre_spectra(galaxies, in_fibre, gas=rng(Stage.GAS), motions=rng(Stage.MOTIONS))
    flux, ivar = _disperse(true, tracer, sites, rng)
    columns = {
        **labels.of_galaxies(galaxies, shape, sites.exposure, rng),
        **labels.of_any(tracer, galaxies.flux, in_fibre, sites.ebv, sites.exposure),
    }
    return Observation(stamps, flux, ivar, columns)


def _observe_points(tracer: Tracer, sites: Sites, size: int, rng: Streams) -> Observation:
    n = len(sites.ra)
    draw = {"qso": draw_quasars, "star": draw_stars}[tracer]
    points: Points = draw(n, rng(Stage.POPULATION))
    neighbours = draw_neighbours(np.zeros(n), rng(Stage.NEIGHBOURS))
    seen = points.flux * milkyway.band_transmission(sites.ebv)
    x, y = rng(Stage.MORPHOLOGY).uniform(-PIXEL_SCALE / 4, PIXEL_SCALE / 4, (2, n))

    def scene(rows: slice) -> Stamps:
        return render_points(x[rows], y[rows], seen[rows], size) + render_neighbours(
            neighbours[rows], size
        )

    stamps, in_fibre = _photograph(scene, seen[:, 1], sites, size, rng(Stage.PIXELS))
    true = torch.from_numpy((points.spectrum * in_fibre[:, None]).astype(np.float32))
    flux, ivar = _disperse(true, tracer, sites, rng)
    columns = {
        **labels.of_points(points),
        **labels.of_any(tracer, points.flux, in_fibre, sites.ebv, sites.exposure),
    }
    return Observation(stamps, flux, ivar, columns)


def _photograph(
    scene: Callable[[slice], Stamps],
    r: Float[np.ndarray, "B"],
    sites: Sites,
    size: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "B 3 y x"], Float[np.ndarray, "B"]]:
    """Observed stamps in nanomaggies, and the fraction of the light in r inside the fibre."""
    n = len(r)
    stamps = np.empty((n, 3, size, size), np.float32)
    fibre = np.empty(n)
    for rows in _batches(n):
        blurred = camera.blur(scene(rows), sites.exposure.fwhm[rows])
        fibre[rows] = camera.fibre_flux(blurred, sites.fibre[rows])[:, 1]
        stamps[rows] = camera.add_noise(blurred, sites.exposure[rows], rng).numpy()
    return stamps, np.clip(fibre / r, 0.005, 1)


def _batches(n: int) -> Iterator[slice]:
    return (slice(i, min(i + RENDERED_AT_ONCE, n)) for i in range(0, n, RENDERED_AT_ONCE))


def _disperse(
    true: Float[Tensor, "B L"],
    tracer: Tracer,
    sites: Sites,
    rng: Streams,
) -> tuple[Float[np.ndarray, "B L"], Float[np.ndarray, "B L"]]:
    """Observed spectra in 1e-17 erg/s/cm²/Å and their inverse variance."""
    seconds = BRIGHT_TIME if tracer == "bgs" else DARK_TIME
    conditions = spectrograph.draw_conditions(len(true), rng(Stage.CONDITIONS), seconds)
    seen = true * _galactic_dust(sites.ebv) * spectrograph.calibration(conditions)
    variance = spectrograph.variance(seen, conditions)
    noise = spectrograph.noise(variance, rng(Stage.SPECTRUM))
    flux = seen + spectrograph.sky_residual(conditions) + noise
    return flux.numpy(), (1 / variance).numpy()


def _galactic_dust(ebv: Float[np.ndarray, "B"]) -> Float[Tensor, "B L"]:
    extinction = torch.from_numpy(milkyway.extinction(desi_grid()).astype(np.float32))
    per_ebv = torch.from_numpy((-0.4 * np.log(10) * ebv).astype(np.float32))
    return torch.exp(per_ebv[:, None] * extinction)


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


def _images(ids: np.ndarray, flux: Float[np.ndarray, "B 3 y x"], sites: Sites) -> Images:
    scale, mask = np.full(len(ids), PIXEL_SCALE), np.zeros(flux.shape, bool)
    return Images(ids=ids, flux=flux, pixel_scale=scale, mask=mask, ra=sites.ra, dec=sites.dec)


def _spectra(
    ids: np.ndarray,
    flux: Float[np.ndarray, "B L"],
    ivar: Float[np.ndarray, "B L"],
    sites: Sites,
) -> Spectra:
    return Spectra(
        ids=ids,
        wavelength=np.broadcast_to(desi_grid(), (len(ids), DESI_PIXELS)),
        flux=flux,
        ivar=ivar,
        mask=np.zeros(flux.shape, bool),
        ra=sites.ra,
        dec=sites.dec,
    )
