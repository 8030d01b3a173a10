"""Galaxies by number, and how they are once they were in a store."""

from dataclasses import replace

import numpy as np

from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.survey import Survey

SIZE, LENGTH = 12, 50
GRID = np.linspace(4000, 9000, LENGTH)


def galaxies(start: int, stop: int, **columns) -> Survey:
    """Galaxies of a sky without end: the same number is the same galaxy."""
    images, spectra, ra, dec, redshift = [], [], [], [], []
    for number in range(start, stop):
        rng = np.random.default_rng(number)
        images.append(rng.normal(0, 1, (3, SIZE, SIZE)))
        spectra.append(rng.normal(0, 1, (3, LENGTH)))
        ra.append(rng.uniform(0, 360))
        dec.append(rng.uniform(-80, 80))
        redshift.append(rng.uniform(0, 1))
    ids = np.array([f"galaxy-{number}" for number in range(start, stop)])
    sky = {"ids": ids, "ra": np.array(ra), "dec": np.array(dec)}
    flux, noise, bad = np.moveaxis(np.array(spectra), 1, 0)
    masked = np.array(images) > 2
    masked[np.arange(start, stop) % 2 == 0] = False
    return Survey(
        Images.from_arrays(images, mask=masked, pixel_scale=0.3, **sky),
        Spectra.from_arrays(flux, wavelength=GRID, ivar=noise**2, mask=bad > 2, **sky),
        {"redshift": np.array(redshift), **columns},
    )


def assert_same(read: Survey, written: Survey) -> None:
    """Equal but for the rounding of images to float16, and the order of columns."""
    rounded = written.images.flux.astype(np.float16)
    images = replace(written.images, flux=rounded.astype(np.float32))
    for one, other in ((read.images, images), (read.spectra, written.spectra)):
        for name, array in vars(one).items():
            np.testing.assert_array_equal(array, getattr(other, name), strict=name != "ids")
    assert set(read.columns) == set(written.columns)
    for name, column in written.columns.items():
        np.testing.assert_array_equal(read.columns[name], column)
