"""Sizes measured by growth curves, against profiles whose sizes are known."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "size_measures.py"
SPEC = importlib.util.spec_from_file_location("size_measures", PATH)
measures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(measures)

SCALE = 0.25  # arcsec
H = 1.5  # scale length, arcsec


def disk(ratio: float = 1.0, size: int = 161) -> np.ndarray:
    """An exponential disk, as the mean of 5 × 5 points in every pixel."""
    axis = (np.arange(5 * size) - (5 * size - 1) / 2) * SCALE / 5
    fine = np.exp(-np.hypot(axis, axis[:, None] / ratio) / H)
    return fine.reshape(size, 5, size, 5).mean((1, 3))


def test_half_light_radius_of_an_exponential_disk():
    growth = measures.growth_curve(disk(), SCALE)
    assert growth.radius_of(0.5, 19.0) == pytest.approx(1.678 * H, rel=0.02)


def test_petrosian_radii_of_an_exponential_disk():
    """R50 and R90 of a pure exponential: 1.66 and 3.83 h, concentration 2.3 (Blanton 2001)."""
    half, ninety = measures.petrosian_radii(disk(), SCALE)
    assert half == pytest.approx(1.66 * H, rel=0.03)
    assert ninety / half == pytest.approx(2.3, rel=0.03)


def test_petrosian_radii_that_do_not_fit_the_image_are_nan():
    assert np.isnan(measures.petrosian_radii(disk(size=41), SCALE)).all()


@pytest.mark.parametrize("ratio", [0.25, 0.6, 1.0])
def test_isophotal_axis_ratio_is_that_of_the_disk_whatever_the_stretch(ratio):
    image = disk(ratio)
    found = measures.isophotal_axis_ratio(image, 14)
    assert found == pytest.approx(ratio, abs=0.03)
    assert measures.isophotal_axis_ratio(np.arcsinh(30 * image), 14) == pytest.approx(
        found, abs=0.01
    )


def test_isophotal_radius_is_where_the_profile_reaches_the_level():
    level = np.exp(-2.0)
    assert measures.isophotal_radius(disk(), SCALE, level) == pytest.approx(2 * H, rel=0.02)


def test_isophotal_radius_leaves_neighbours_out():
    image = disk()
    image[5:15, 5:15] = 1
    expected = measures.isophotal_radius(disk(), SCALE, 0.1)
    assert measures.isophotal_radius(image, SCALE, 0.1) == expected
