from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.survey.images import Images
from appulse.survey.photometry import APERTURES, SOFTENING, aperture_fluxes
from appulse.survey.structure import (
    FAINT,
    LAGS,
    MODES,
    RINGS,
    azimuthal_modes,
    structure,
)
from appulse.units import PIXEL_SCALE

SIZE, COUNT = 80, len(RINGS) - 1


def polar(size=SIZE):
    y, x = np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    return PIXEL_SCALE * np.hypot(x, y), np.arctan2(y, x)


def images(light, **options):
    """Of one galaxy, whose arcsinh of brightness is given."""
    flux = FAINT * np.sinh(np.asarray(light))
    return Images.from_arrays(np.repeat(flux[None, None], 3, axis=1).astype(np.float32), **options)


def amplitudes(found):
    return found[0, : COUNT * len(MODES)].reshape(COUNT, len(MODES))


def turns(found, lag):
    """Cosine and |sine| parts of two rings so far apart."""
    parts = np.split(found[0, COUNT * len(MODES) :], np.cumsum([2 * (COUNT - k) for k in LAGS]))
    return np.split(parts[LAGS.index(lag)], 2)


@pytest.mark.parametrize("m", MODES[1:])
def test_amplitudes_are_those_put_in(m):
    radius, angle = polar()
    light = 3 - radius / 5 + 0.6 * np.cos(m * angle - 1.3)
    found = azimuthal_modes(images(light))
    assert found.shape == (1, 10 * 4 + 2 * 9 + 2 * 8)
    middles = np.array([(3 - radius / 5)[(radius >= a) & (radius < b)].mean()
                        for a, b in pairwise(RINGS)])  # fmt: skip
    np.testing.assert_allclose(amplitudes(found)[:, 0], middles, atol=0.02)
    np.testing.assert_allclose(amplitudes(found)[:, m], 0.3, atol=0.04)
    others = [k for k in MODES[1:] if k != m]
    assert amplitudes(found)[1:, others].max() < 0.08  # pixels on a ring's edge


@pytest.mark.parametrize("lag", LAGS)
def test_bars_keep_their_line_and_arms_turn(lag):
    radius, angle = polar()
    bar = azimuthal_modes(images(2 + 0.8 * np.cos(2 * angle - 0.7)))
    along, across = turns(bar, lag)
    # amplitude .4 in both rings, so the product of 2 over its root, softened, is .16 / .42
    np.testing.assert_allclose(along, 0.16 / 0.42, atol=0.05)
    assert across.max() < 0.06
    pitch = 0.9  # radian of phase per arcsec
    arms = azimuthal_modes(images(2 + 0.8 * np.cos(2 * angle - pitch * radius)))
    middle = np.array([radius[(radius >= a) & (radius < b)].mean()
                       for a, b in pairwise(RINGS)])  # fmt: skip
    step = pitch * (middle[lag:] - middle[:-lag])
    along, across = turns(arms, lag)
    strength = np.hypot(along, across)
    np.testing.assert_allclose(along / strength, np.cos(step), atol=0.12)
    np.testing.assert_allclose(across / strength, np.abs(np.sin(step)), atol=0.12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), turned=st.integers(0, 3), mirrored=st.booleans())
def test_turned_and_mirrored_galaxies_have_the_same_shape(seed, turned, mirrored):
    light = np.random.default_rng(seed).gamma(1, 1, (SIZE, SIZE))
    other = np.rot90(light, turned)
    other = other[:, ::-1] if mirrored else other
    np.testing.assert_allclose(structure(images(light)), structure(images(other)), atol=2e-5)


def test_masked_pixels_do_not_count():
    rng, (radius, angle) = np.random.default_rng(0), polar()
    light = 3 - radius / 5 + 0.5 * np.cos(2 * angle)
    clean = images(light)
    mask = np.repeat(rng.random((1, 1, SIZE, SIZE)) < 0.1, 3, axis=1)
    spoilt = Images.from_arrays(np.where(mask, np.nan, clean.flux))
    np.testing.assert_allclose(azimuthal_modes(spoilt), azimuthal_modes(clean), atol=0.06)


def test_rings_outside_of_the_image_have_nothing():
    found = amplitudes(azimuthal_modes(images(np.ones((40, 40)))))  # 5.24″ to each side
    edges = np.array(RINGS)
    np.testing.assert_allclose(found[edges[1:] < 5.24, 0], 1, atol=1e-5)
    assert (found[edges[:-1] > 6.4] == 0).all()


def test_finer_pixels_say_the_same():
    def galaxy(scale, size):
        y, x = np.meshgrid(*[scale * (np.arange(size) - (size - 1) / 2)] * 2, indexing="ij")
        flux = 2 * scale**2 * np.exp(-np.hypot(x, 2 * y) / 2)
        cube = np.repeat(flux[None, None], 3, axis=1).astype(np.float32)
        return structure(Images.from_arrays(cube, pixel_scale=scale))

    np.testing.assert_allclose(galaxy(PIXEL_SCALE / 2, 160), galaxy(PIXEL_SCALE, 80), atol=0.06)


def test_colours_and_growth_come_first():
    rng, apertures = np.random.default_rng(1), len(APERTURES)
    made = Images.from_arrays(rng.gamma(1, 0.1, (2, 3, SIZE, SIZE)).astype(np.float32))
    found = structure(made)
    light = np.arcsinh(aperture_fluxes(made) / SOFTENING)
    colours = found[:, : 2 * apertures].reshape(2, 2, apertures)
    np.testing.assert_allclose(colours[:, 0], light[:, 1] - light[:, 0], atol=1e-5)
    growth = found[:, 2 * apertures :][:, : 3 * (apertures - 1)].reshape(2, 3, apertures - 1)
    np.testing.assert_allclose(growth, light[:, :, 1:] - light[:, :, :-1], atol=1e-5)
    np.testing.assert_allclose(found[:, 5 * apertures - 3 :], azimuthal_modes(made), atol=1e-5)
