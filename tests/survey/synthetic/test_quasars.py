import numpy as np
import pytest
from astropy import units as u

from appulse.survey.synthetic import quasars
from appulse.survey.synthetic.brightness import band_maggies, filters
from appulse.survey.synthetic.points import OBSERVED, at_brightness, draw_stars
from appulse.units import desi_grid, flux_to_magnitude


@pytest.fixture(scope="module")
def drawn():
    return quasars.draw_quasars(400, np.random.default_rng(0))


def test_redshifts_and_magnitudes_spread_as_said(drawn):
    r = flux_to_magnitude(drawn.flux[:, 1])
    assert ((r > 17) & (r < 23)).all()
    counts = np.log10((r > 22).sum() / ((r > 21) & (r < 22)).sum())
    assert counts == pytest.approx(quasars.COUNT_SLOPE, abs=0.12)
    assert np.median(drawn.redshift) == pytest.approx(1.72, abs=0.12)
    assert drawn.redshift.max() < 3.5


def test_photometry_is_that_of_the_spectra(drawn):
    """r by speclite, whose band lies inside DESI's range."""
    response = filters()[1]
    unit = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
    padded, wave = response.pad_spectrum(drawn.spectrum[:20], desi_grid(), method="edge")
    found = flux_to_magnitude(1e9 * response.get_ab_maggies(padded * unit, wave * u.AA))
    np.testing.assert_allclose(found, flux_to_magnitude(drawn.flux[:20, 1]), atol=0.01)


def test_flat_spectrum_has_flat_magnitudes():
    """AB: constant flux per frequency is equally bright in all bands (Oke & Gunn 1983)."""
    maggies = band_maggies((1 / OBSERVED**2)[None], OBSERVED)
    np.testing.assert_allclose(maggies / maggies[:, :1], 1, rtol=2e-3)
    points = at_brightness(np.zeros(1), (1 / OBSERVED**2)[None], np.array([20.0]))
    np.testing.assert_allclose(flux_to_magnitude(points.flux), 20, atol=0.01)


def test_lines_lie_at_their_redshift(drawn):
    """Mg II and C IV stand above the continuum on either side."""
    grid = desi_grid()
    for line in (1549.1, 2798.8):
        center = line * (1 + drawn.redshift)
        seen = np.flatnonzero((center > 3900) & (center < 9400))
        assert len(seen) > 50
        excess = []
        for row in seen:
            level = np.interp(center[row] * np.array([0.96, 1.0, 1.04]), grid, drawn.spectrum[row])
            excess.append(level[1] / level[[0, 2]].mean())
        assert np.median(excess) > 1.3


def test_forest_has_the_published_mean_depth():
    z = np.full(200, 3.0)
    through = quasars._forest(z, np.random.default_rng(0))
    near = np.abs(OBSERVED / 1215.67 - 1 - 2.8) < 0.05
    tau = 0.0023 * 3.8**3.65  # Kim et al. (2007), equation 4
    assert through[:, near].mean() == pytest.approx(np.exp(-tau), abs=0.05)
    assert (through[:, OBSERVED > 1216 * 4] == 1).all()
    assert through[:, OBSERVED < 800 * 4].max() < 0.1


def test_bright_quasars_have_weaker_carbon():
    bright, faint = (
        quasars._emitted(np.full(300, 2.0), np.full(300, r), np.random.default_rng(0))
        for r in (18.0, 22.0)
    )
    peak = np.argmin(np.abs(OBSERVED - 3 * 1549.1))
    side = np.argmin(np.abs(OBSERVED - 3 * 1480.0))
    excess = [np.median(light[:, peak] / light[:, side]) - 0.93 for light in (bright, faint)]
    assert 1.4 < excess[1] / excess[0] < 2.4  # 4 mag of BALDWIN: 1.87


def test_stars_stand_still_and_keep_their_lines():
    stars = draw_stars(200, np.random.default_rng(0))
    assert np.std(stars.redshift) * 299_792 == pytest.approx(120, rel=0.15)
    colour = -2.5 * np.log10(stars.flux[:, 0] / stars.flux[:, 1])
    grid = desi_grid()
    hot = np.argmin(colour)
    line = np.abs(grid - 4862.7) < 20
    beside = (np.abs(grid - 4862.7) > 60) & (np.abs(grid - 4862.7) < 90)
    assert stars.spectrum[hot, line].min() < 0.6 * stars.spectrum[hot, beside].mean()
    assert np.ptp(colour) > 1
