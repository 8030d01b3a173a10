import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from appulse.survey.images import Images
from appulse.survey.rgb import to_flux, to_rgb


def test_colours_are_astroclips(shared):
    golden = load_file(shared / "golden" / "to_rgb.safetensors")
    colours = to_rgb(golden["raw_chw"])
    np.testing.assert_allclose(
        colours.transpose(0, 2, 3, 1), golden["torgb_hwc"], atol=1e-5, rtol=0
    )


def test_one_pixel_by_hand():
    flux = np.array([0.02, 0.05, 0.1])[:, None, None]
    light = np.array([2.2 * 0.1, 3.4 * 0.05, 6.0 * 0.02]) + 0.03
    intensity = light.mean()
    expected = light * np.arcsinh(20 * intensity) / np.sqrt(20) / intensity
    np.testing.assert_allclose(to_rgb(flux)[:, 0, 0], expected, rtol=1e-6)


@given(st.lists(st.floats(-0.004, 0.03), min_size=3, max_size=3))
def test_flux_comes_back_where_nothing_is_clipped(flux):
    flux = np.broadcast_to(np.array(flux)[:, None, None], (1, 3, 2, 2))
    colours = Images.from_arrays(to_rgb(flux), kind="rgb")
    images = to_flux(colours)
    assert images.kind == "flux"
    assert not images.mask.any()
    np.testing.assert_allclose(images.flux, flux, atol=1e-6)


def test_saturated_pixels_are_masked_and_black_ones_are_faint():
    flux = np.zeros((1, 3, 4, 4))
    flux[..., 0, 0] = 100
    flux[0, 0, 1, 1] = -1  # g below what the viewer shows
    images = to_flux(Images.from_arrays(to_rgb(flux), kind="rgb"))
    assert np.argwhere(images.mask[0, 0]).tolist() == [[0, 0]]
    assert images.mask[0].all(axis=0).sum() == 1
    assert images.flux[0, 0, 1, 1] == pytest.approx(-0.03 / 6.0)
    np.testing.assert_allclose(images.flux[0, :, 2:], 0, atol=1e-6)


def test_eight_bits_cost_a_per_cent():
    rng = np.random.default_rng(0)
    flux = np.broadcast_to(rng.uniform(0.01, 0.1, (1, 3, 1, 1)), (1, 3, 32, 32)) * rng.uniform(
        0.5, 1, (1, 1, 32, 32)
    )
    colours = np.round(to_rgb(flux) * 255) / 255
    images = to_flux(Images.from_arrays(colours, kind="rgb"))
    good = ~images.mask
    assert np.sqrt(np.mean((images.flux / flux - 1)[good] ** 2)) < 0.03


def test_fluxes_are_left_alone():
    images = Images.from_arrays(np.ones((1, 3, 4, 4)))
    assert to_flux(images) is images
