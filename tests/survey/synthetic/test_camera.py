import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq

from appulse.survey.synthetic import camera
from appulse.units import PIXEL_SCALE, magnitude_to_flux

FWHM = np.array([[0.9, 1.3, 2.0]])


@pytest.fixture(scope="module")
def star():
    """A point source at pixel (48, 48), blurred."""
    sharp = torch.zeros(1, 3, 96, 96)
    sharp[..., 48, 48] = 1
    return camera.blur(sharp, FWHM)[0].numpy()


def test_psf_keeps_flux_and_has_its_width(star):
    np.testing.assert_allclose(star.sum((1, 2)), 1, rtol=1e-3)
    pixels = np.arange(96) - 48.0
    for plane, fwhm in zip(star, FWHM[0], strict=True):
        profile = RectBivariateSpline(pixels, pixels, plane)
        half = brentq(lambda x, f=profile: f(0, x)[0, 0] - f(0, 0)[0, 0] / 2, 0.5, 20)
        assert 2 * half * PIXEL_SCALE == pytest.approx(fwhm, rel=0.02)


def test_psf_is_the_sum_of_gaussians_it_names(star):
    axis = (np.arange(96) - 48.0) * PIXEL_SCALE
    square = axis**2 + axis[:, None] ** 2
    for plane, fwhm in zip(star, FWHM[0], strict=True):
        expected = 0
        for share, width in camera.PSF:
            variance = (width * fwhm / 2.35482) ** 2
            expected += share * np.exp(-square / 2 / variance) / (2 * np.pi * variance)
        np.testing.assert_allclose(plane, expected * PIXEL_SCALE**2, atol=2e-3 * plane.max())


def test_noise_has_its_variance():
    image = torch.full((4, 3, 96, 96), 0.1)
    exposure = camera.draw_exposure(np.zeros(4), np.random.default_rng(0))
    gain = torch.from_numpy(exposure.gain.astype(np.float32))[..., None, None]
    noise = camera.add_noise(image, exposure, np.random.default_rng(1)) - gain * image
    variance = camera.pixel_variance(image, exposure)
    assert float((noise**2 / variance).mean()) == pytest.approx(1, abs=0.01)
    shared = np.corrcoef(noise[0, 0, :, :-1].flatten(), noise[0, 0, :, 1:].flatten())[0, 1]
    assert abs(shared) < 0.05


def test_source_photons_double_the_variance_at_the_level_named():
    image = torch.zeros(1, 3, 96, 96)
    exposure = camera.draw_exposure(np.zeros(1), np.random.default_rng(0))
    sky = camera.pixel_variance(image, exposure)
    image += torch.tensor(camera.SKY_LEVEL)[:, None, None]
    torch.testing.assert_close(camera.pixel_variance(image, exposure), 2 * sky)
    torch.testing.assert_close(camera.pixel_variance(-image, exposure), sky)


def test_depth_is_the_five_sigma_limit_of_a_gaussian_point_source():
    """The error of an optimal fit is σ / sqrt(Σ psf²)."""
    exposure = camera.Exposure(
        fwhm=FWHM + 0.5, depth=np.array([[24.0, 23.4, 22.5]]), gain=np.ones((1, 3))
    )
    axis = (np.arange(96) - 48.0) * PIXEL_SCALE
    for b in range(3):
        variance = (exposure.fwhm[0, b] / 2.35482) ** 2
        psf = np.exp(-(axis**2 + axis[:, None] ** 2) / 2 / variance)
        psf /= psf.sum()
        error = exposure.sky_noise[0, b] / np.sqrt((psf**2).sum())
        assert 5 * error == pytest.approx(magnitude_to_flux(exposure.depth)[0, b], rel=0.01)


def test_fibre_takes_its_area_of_a_flat_image():
    flux = camera.fibre_flux(torch.ones(1, 3, 96, 96))
    np.testing.assert_allclose(flux * PIXEL_SCALE**2, np.pi * 0.75**2, rtol=0.02)


def test_seeing_and_depth_are_those_of_each_side():
    dec = np.repeat([32.3, 32.4], 2000)
    exposure = camera.draw_exposure(dec, np.random.default_rng(0))
    for rows, fwhm, depth in (
        (slice(2000), (1.29, 1.18, 1.11), (24.7, 23.9, 23.0)),
        (slice(2000, None), (1.61, 1.47, 1.01), (24.2, 23.6, 23.0)),
    ):
        np.testing.assert_allclose(np.median(exposure.fwhm[rows], 0), fwhm, atol=0.02)
        np.testing.assert_allclose(np.median(exposure.depth[rows], 0), depth, atol=0.02)
        np.testing.assert_allclose(2.5 * np.log10(exposure.gain[rows]).std(0), 0.02, rtol=0.1)


def test_a_displaced_fibre_sees_what_is_there():
    image = torch.zeros(2, 3, 64, 64)
    image[:, :, 31:33, 33:35] = 1  # centred .524 arcsec to the right
    right, left = camera.fibre_flux(image, np.array([[0.524, 0.0], [-0.524, 0.0]]))
    centred = torch.roll(image[:1], -2, dims=-1)
    np.testing.assert_allclose(right, camera.fibre_flux(centred)[0], rtol=1e-4)
    assert (left < 0.3 * right).all()
