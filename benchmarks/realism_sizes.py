"""Sizes and axis ratios of `realism`: simulated galaxies against real images and a published law.

Legacy Surveys cutouts have a scale in arcsec, Galaxy Zoo 2's only one in units of each galaxy's
own radius. Nothing is fitted.
"""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from astropy.io import fits
from jaxtyping import Float
from PIL import Image

from appulse.survey.images import Images
from appulse.survey.rgb import to_flux
from appulse.survey.synthetic import camera, cosmology
from appulse.survey.synthetic.history import SSP_AGE
from appulse.survey.synthetic.images import render_galaxies
from appulse.survey.synthetic.morphology import (
    BARRED,
    DISTURBED,
    EDGE_ON,
    ELLIPTICAL,
    SMOOTH,
    SPIRAL,
    Morphology,
    draw_morphology,
)
from appulse.survey.synthetic.population import Population, draw_population
from appulse.survey.synthetic.ssp import surviving_fraction
from appulse.units import PIXEL_SCALE, flux_to_magnitude
from realism_photometry import SEED
from realism_sn import estimate, ks
from size_measures import (
    distances,
    growth_curve,
    isophotal_axis_ratio,
    isophotal_radius,
    petrosian_radii,
)

STAMP = 152  # pixels
CUTOUT_SCALE, APERTURE, SKY = 0.1, 12.0, 13.0  # arcsec per pixel; arcsec
FIBRE, FIBRE_LOSS = 1.5, 0.3  # arcsec; mag, by which SDSS's spectra are brighter than the fibre
LEVELS = (22.0, 23.0)  # mag per square arcsec in r
NEAREST = 20  # simulated galaxies for each real one
SDSS_FWHM = 1.32  # arcsec in r
# Galaxy Zoo 2: 424 pixels of .02 R90, which the collector resized to 299 (cv2.resize).
ZOO_R90 = 50 * 299 / 424  # pixels
ZOO_LIMITS = (17.0, 3.0)  # r and R90 in arcsec of Galaxy Zoo 2 (Willett et al. 2013)
ISOPHOTE = 0.6  # R90, radius of the circle of its area
ZOO_CLASSES = {
    "elliptical": (ELLIPTICAL, SMOOTH),
    "spiral": (SPIRAL,),
    "barred_spiral": (BARRED,),
    "edge_view_spiral": (EDGE_ON,),
}
EARLY = 2.6  # R90 over R50 that divides early from late types (Strateva et al. 2001)


class Sample(NamedTuple):
    """Simulated galaxies, bright ones of those drawn, and their images in r, nanomaggies."""

    galaxies: Population
    shape: Morphology
    image: Float[np.ndarray, "B y x"]

    @property
    def r(self) -> Float[np.ndarray, "B"]:
        """Total magnitude in r."""
        return flux_to_magnitude(self.galaxies.flux[:, 1])


def sizes(folder: Path) -> dict[str, Any]:
    """All comparisons of sizes and shapes."""
    galaxies = draw_population(12_000, np.random.default_rng(SEED + 3))
    shape = draw_morphology(galaxies, np.random.default_rng(SEED + 3))
    bright = np.flatnonzero(galaxies.flux[:, 1] > 10 ** (0.4 * (22.5 - 17.8)))
    galaxies, shape = galaxies[bright], shape[bright]
    legacy, sdss = (
        Sample(galaxies, shape, photographed(galaxies, shape, fwhm)) for fwhm in (None, SDSS_FWHM)
    )
    return {
        "Legacy Surveys": legacy_surveys(folder / "real" / "pairs_legacysurvey_sdss", legacy),
        "Galaxy Zoo 2": galaxy_zoo(folder / "real" / "images_gz2_4class.parquet", sdss),
        "Shen et al. (2003)": shen(galaxies, shape),
    }


def photographed(
    galaxies: Population, shape: Morphology, fwhm: float | None
) -> Float[np.ndarray, "B y x"]:
    """Images in r of the south, or with one seeing in arcsec for all; without neighbours."""
    rng = np.random.default_rng(SEED + 4)
    n = len(galaxies.redshift)
    exposure = camera.draw_exposure(np.zeros(n), rng)
    seeing = np.full((n, 3), fwhm) if fwhm else exposure.fwhm
    parts = []
    for rows in (slice(i, i + 8) for i in range(0, n, 8)):
        sharp = render_galaxies(shape[rows], galaxies.flux[rows], STAMP)
        blurred = camera.blur(sharp, seeing[rows])
        parts.append(camera.add_noise(blurred, exposure[rows], rng)[:, 1])
    return torch.cat(parts).numpy()


def legacy_surveys(folder: Path, simulated: Sample) -> dict[str, Any]:
    """Angular sizes of real galaxies, and of simulated ones as bright and as far."""
    with (folder / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    real = np.array([real_sizes(folder, row) for row in rows])
    z = np.array([float(row["z"]) for row in rows])
    ours = np.array([
        absolute_sizes(image, PIXEL_SCALE, None) for image in simulated.image
    ])  # fmt: skip
    near = [nearest(one[0], there, ours[:, 0], simulated.galaxies.redshift)
            for one, there in zip(real, z, strict=True)]  # fmt: skip
    names = ("R50", *(f"isophote {level:.0f}" for level in LEVELS))
    found: dict[str, Any] = {
        "real": len(rows),
        "r": real[:, 0].round(2).tolist(),
        "z": z.round(4).tolist(),
    }
    for k, name in enumerate(names, start=1):
        found[name] = compare(np.log10(real[:, k]), np.log10(np.array([ours[i, k] for i in near])))
        found[name]["real, arcsec"] = real[:, k].round(2).tolist()
        found[name]["simulated, arcsec, 16, 50, 84 %"] = [
            np.percentile(ours[i, k], (16, 50, 84)).round(2).tolist() for i in near
        ]
    return found


def compare(real: Float[np.ndarray, "B"], simulated: Float[np.ndarray, "B K"]) -> dict[str, Any]:
    """Offset of matched logarithms, in the median, and whether their ranks are even (KS)."""
    rank = (simulated < real[:, None]).mean(1)
    return {
        "offset, dex": estimate(np.median, np.median(simulated, axis=1) - real),
        "rank of the real among the simulated": rank.round(2).tolist(),
        "KS": ks(real, simulated),
    }


def nearest(r: float, z: float, ours_r: np.ndarray, ours_z: np.ndarray) -> np.ndarray:
    """Rows of the simulated galaxies that are nearest in magnitude and redshift."""
    return np.argsort(((ours_r - r) / 0.2) ** 2 + ((ours_z - z) / 0.02) ** 2)[:NEAREST]


def real_sizes(folder: Path, row: dict[str, str]) -> list[float]:
    """As `absolute_sizes`, of a JPEG whose saturated centre is known from the spectrum alone."""
    rgb = np.asarray(Image.open(folder / row["image"]).convert("RGB")).transpose(2, 0, 1) / 255
    seen = to_flux(Images.from_arrays(rgb[None], pixel_scale=CUTOUT_SCALE, kind="rgb"))
    saturated = seen.mask[0].any(0)
    image = seen.flux[0, 1] * (CUTOUT_SCALE / PIXEL_SCALE) ** 2  # the viewer keeps brightness
    image[saturated] = image[~saturated].max()  # a lower bound; inside the fibre it is replaced
    with fits.open(folder / row["spectrum"]) as file:
        fibre = file[2].data["SPECTROFLUX"][0, 2] * 10 ** (-0.4 * FIBRE_LOSS)
    return absolute_sizes(image, CUTOUT_SCALE, fibre)


def absolute_sizes(image: Float[np.ndarray, "y x"], scale: float, fibre: float | None) -> list:
    """Magnitude and half-light radius in 12 arcsec, and isophotal radii, arcsec.

    Sky is what lies beyond 13 arcsec in a square of 25.6; `fibre`, nanomaggies, replaces the
    light inside 1.5 arcsec.
    """
    keep = min(len(image), round(25.6 / scale)) // 2
    middle = len(image) // 2
    image = image[middle - keep : middle + keep, middle - keep : middle + keep]
    image = image - np.median(image[distances(image.shape, scale) > SKY])
    growth = growth_curve(image, scale)
    if fibre is not None:
        inside = np.interp(FIBRE, *growth)
        light = np.where(growth.radius < FIBRE, growth.light * fibre / inside,
                         growth.light + fibre - inside)  # fmt: skip
        growth = growth._replace(light=light)
    total = float(np.interp(APERTURE, *growth))
    levels = [10 ** (0.4 * (22.5 - level)) * scale**2 for level in LEVELS]
    return [22.5 - 2.5 * np.log10(total), growth.radius_of(0.5, APERTURE),
            *(isophotal_radius(image, scale, level) for level in levels)]  # fmt: skip


def galaxy_zoo(path: Path, simulated: Sample) -> dict[str, Any]:
    """Axis ratios by class. Stretch and scale of the real images leave no size, no concentration.

    Simulated ones meet Galaxy Zoo 2's limits; their concentration has no real counterpart here.
    """
    table = pq.read_table(path)
    label = np.array(table["label"].to_pylist())
    real = np.array([
        isophotal_axis_ratio(green(jpeg.as_py()), ISOPHOTE * ZOO_R90) for jpeg in table["jpeg"]
    ])  # fmt: skip
    half, ninety = np.array([petrosian_radii(one, PIXEL_SCALE) for one in simulated.image]).T
    chosen = np.flatnonzero((simulated.r < ZOO_LIMITS[0]) & (ninety > ZOO_LIMITS[1]))
    kind, c = simulated.shape.kind[chosen], (ninety / half)[chosen]
    ratio = np.array([
        isophotal_axis_ratio(simulated.image[k], ISOPHOTE * ninety[k] / PIXEL_SCALE) for k in chosen
    ])  # fmt: skip
    return {
        "R90 of the real images, pixels": round(ZOO_R90, 1),
        "axis ratio": {
            name: distribution(real[label == name], ratio[np.isin(kind, kinds)])
            for name, kinds in ZOO_CLASSES.items()
        },
        "simulated R90/R50": {
            "ellipticals, 16, 50, 84 %": percentiles(c[kind == ELLIPTICAL]),
            "spirals and bars, 16, 50, 84 %": percentiles(c[np.isin(kind, (SPIRAL, BARRED))]),
            "ellipticals above 2.6": round(float((c[kind == ELLIPTICAL] > EARLY).mean()), 3),
            "spirals and bars below 2.6": round(
                float((c[np.isin(kind, (SPIRAL, BARRED))] < EARLY).mean()), 3
            ),
        },
    }


def green(jpeg: bytes) -> Float[np.ndarray, "y x"]:
    """The channel that shows r."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), float)[..., 1]


def distribution(real: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    """Percentiles, sorted values, and a KS test."""
    real, simulated = (np.sort(x[np.isfinite(x)]) for x in (real, simulated))
    return {
        "galaxies": {"real": len(real), "simulated": len(simulated)},
        "real, 16, 50, 84 %": percentiles(real),
        "simulated, 16, 50, 84 %": percentiles(simulated),
        "KS": ks(real, simulated),
        "values": {"real": real.round(3).tolist(), "simulated": simulated.round(3).tolist()},
    }


def percentiles(values: np.ndarray) -> list[float]:
    return np.nanpercentile(values, (16, 50, 84)).round(3).tolist()


def shen(galaxies: Population, shape: Morphology) -> dict[str, Any]:
    """Circular half-light radii of sharp images in kpc, over the law at the surviving mass.

    Shen et al. (2003, with the erratum of 2007), equations 17 to 19 for Sérsic half-light radii
    in circles. Our sizes name it among their sources, rounded between it and others: this tests
    what becomes of them in images more than it tests the law.
    """
    near = np.flatnonzero((galaxies.redshift < 0.2) & (shape.r_eff < 6) & (shape.kind != DISTURBED))
    galaxies, shape = galaxies[near], shape[near]
    mass = galaxies.log_mstar + np.log10(galaxies.mass_fraction @ surviving_fraction(SSP_AGE))
    kpc = half_light(galaxies, shape) * cosmology.kpc_per_arcsec(galaxies.redshift)
    early = shape.kind == ELLIPTICAL
    left = np.log10(kpc) - np.log10(np.where(early, shen_early(mass), shen_late(mass)))
    found = {}
    for name, rows in (("early", early), ("late", ~early)):
        for low in (9.5, 10.0, 10.5, 11.0):
            inside = rows & (mass >= low) & (mass < low + 0.5)
            if inside.sum() >= 20:
                found[f"{name}, log M {low} to {low + 0.5}"] = {
                    "galaxies": int(inside.sum()),
                    "offset, dex": estimate(np.median, left[inside]),
                    "scatter, dex": half_width(left[inside]),
                    "scatter of Shen, dex": round(float(shen_scatter(low + 0.25)), 3),
                }
    points = {
        "log M": mass.round(2).tolist(),
        "kpc": kpc.round(2).tolist(),
        "early": early.tolist(),
    }
    return {"bins": found, "points": points}


def half_width(values: np.ndarray) -> float:
    """Half of the central 68 %."""
    return round(float(np.diff(np.percentile(values, (16, 84)))[0] / 2), 3)


def half_light(galaxies: Population, shape: Morphology) -> Float[np.ndarray, "B"]:
    """Radius of the circle that holds half of the light in r without seeing, arcsec."""
    found = []
    for rows in (slice(i, i + 8) for i in range(0, len(shape.r_eff), 8)):
        sharp = render_galaxies(shape[rows], galaxies.flux[rows], STAMP)[:, 1].numpy()
        found += [growth_curve(one, PIXEL_SCALE).radius_of(0.5, 19.5) for one in sharp]
    return np.array(found)


def shen_early(log_mass: np.ndarray) -> np.ndarray:
    """Kpc, equation 17."""
    return 2.88e-6 * 10 ** (0.56 * log_mass)


def shen_late(log_mass: np.ndarray) -> np.ndarray:
    """Kpc, equation 18."""
    mass = 10**log_mass
    return 0.1 * mass**0.14 * (1 + mass / 3.98e10) ** (0.39 - 0.14)


def shen_scatter(log_mass: float) -> float:
    """Dex, equation 19."""
    return (0.34 + (0.47 - 0.34) / (1 + (10**log_mass / 3.98e10) ** 2)) / np.log(10)
