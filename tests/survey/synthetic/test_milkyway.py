import numpy as np

from appulse.survey.synthetic import milkyway
from appulse.survey.synthetic.brightness import filters


def test_curve_agrees_with_published_bands():
    """DECam's own coefficients (legacysurvey.org) at the middles of its filters."""
    middle = np.array([response.effective_wavelength.value for response in filters()])
    np.testing.assert_allclose(milkyway.extinction(middle), milkyway.BAND_EXTINCTION, rtol=0.04)


def test_curve_agrees_with_fitzpatrick():
    """Landolt B, V, R, I of Schlafly & Finkbeiner (2011, table 6), which the curve does not use."""
    wave = np.array([4329.0, 5422.0, 6428.0, 8048.0])
    np.testing.assert_allclose(milkyway.extinction(wave), [3.626, 2.742, 2.169, 1.505], rtol=0.03)


def test_dust_dims_by_its_magnitudes():
    through = milkyway.band_transmission(np.array([0.0, 0.1]))
    np.testing.assert_allclose(through[0], 1)
    np.testing.assert_allclose(-2.5 * np.log10(through[1]), [0.3214, 0.2165, 0.1211])


def test_reddening_spreads_as_said():
    ebv = milkyway.draw_reddening(20_000, np.random.default_rng(0))
    assert abs(np.median(ebv) / milkyway.MEDIAN_EBV - 1) < 0.02
    assert ebv.min() > 0
    assert ebv.max() <= 0.3
