import numpy as np
import pytest
import torch

from appulse.survey.synthetic import spectrograph
from appulse.survey.synthetic.spectrograph import Conditions
from appulse.units import desi_grid


def conditions(n, **values):
    columns = {"noise": 1.0, "grey": 0.0, "tilt": 0.0, "residual": 0.0} | values
    return Conditions(**{name: np.full(n, value) for name, value in columns.items()})


def test_noise_has_the_variance_that_ivar_claims():
    flux = torch.full((40, 7781), 3.0)
    nights = spectrograph.draw_conditions(40, np.random.default_rng(0))
    variance = spectrograph.variance(flux, nights)
    chi = spectrograph.noise(variance, np.random.default_rng(1)) / torch.sqrt(variance)
    assert float((chi**2).mean()) == pytest.approx(1, abs=0.01)
    assert float(chi.mean()) == pytest.approx(0, abs=0.005)
    per_pixel = (chi**2).mean(0).numpy()
    assert np.abs(per_pixel - 1).max() < 1.5  # 40 draws: six sigma is 1.3


def test_brighter_sources_and_worse_nights_are_noisier():
    sources = (torch.full((1, 7781), flux) for flux in (0.0, 9.0))
    dark, bright = (spectrograph.variance(source, conditions(1)) for source in sources)
    assert (bright > dark).all()
    bad = spectrograph.variance(torch.zeros(1, 7781), conditions(1, noise=2.0))
    torch.testing.assert_close(bad, 4 * dark)


def test_calibration_errs_in_level_and_slope():
    factor = spectrograph.calibration(conditions(1, grey=0.02, tilt=-0.01))[0]
    np.testing.assert_allclose(factor[[0, 3890, -1]], [1.03, 1.02, 1.01], atol=1e-5)


def test_residuals_follow_the_sky_lines():
    residual = spectrograph.sky_residual(conditions(1, residual=0.02))[0].numpy()
    wave = desi_grid()
    line = np.abs(wave - 5578.9) < 40
    assert wave[line][residual[line].argmax()] == pytest.approx(5578.9, abs=0.8)
    assert residual[line].max() == pytest.approx(0.02 * 9, rel=0.15)
    assert residual[(wave > 4000) & (wave < 5500)].max() < 1e-6


def test_noise_has_the_shape_of_real_coadds():
    """Median noise around a wavelength over that at 6500 Å, from 14 public DESI coadds."""
    measured = {3800: 5.9, 4300: 2.6, 5200: 1.44, 6000: 1.32, 7000: 0.83, 8600: 0.71, 9000: 0.70}
    noise = torch.sqrt(spectrograph.variance(torch.zeros(1, 7781), conditions(1)))[0].numpy()
    wave = desi_grid()
    level = {c: np.median(noise[np.abs(wave - c) < 60]) for c in (6500, *measured)}
    for center, expected in measured.items():
        assert level[center] / level[6500] == pytest.approx(expected, rel=0.1)


def test_a_source_is_counted_in_photons():
    """By hand: 1e-17 · 8.66 m² · 180 s · .8 Å · .35 over the energy of a photon of 6600 Å."""
    pixel = np.argmin(np.abs(desi_grid() - 6600))
    counted = 1e-17 * 8.66e4 * 180 * 0.8 * 0.35 / (1.98645e-8 / 6600)
    assert spectrograph.photons()[pixel] == pytest.approx(counted, rel=0.01)
    flux, night = 7.0, conditions(1)
    bright = spectrograph.variance(torch.full((1, 7781), flux), night)
    empty = spectrograph.variance(torch.zeros(1, 7781), night)
    # Poisson: the variance of flux = counts / photons is flux / photons.
    own = (bright - empty)[0, pixel].item()
    assert own == pytest.approx(flux / counted, rel=0.01)


def test_telluric_bands_and_dichroics_take_light():
    wave, through = desi_grid(), spectrograph.transmission()
    assert ((through > 0.5) & (through <= 1)).all()
    for band, side in ((7610, 7500), (6875, 6800), (5780, 5650)):
        inside, outside = (through[np.argmin(np.abs(wave - x))] for x in (band, side))
        assert inside < 0.85 * outside
