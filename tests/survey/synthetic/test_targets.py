import numpy as np
import pytest

from appulse.survey.synthetic import targets
from appulse.survey.synthetic.population import draw_population
from appulse.survey.synthetic.simulate import simulate
from appulse.units import desi_grid, flux_to_magnitude


@pytest.mark.parametrize("name", targets.GALAXIES)
def test_galaxies_obey_their_cuts(name):
    target = targets.GALAXIES[name]
    galaxies = draw_population(300, np.random.default_rng(0), target)
    assert target.passes(*flux_to_magnitude(galaxies.flux).T).all()
    low, high = target.redshift
    assert ((galaxies.redshift > low) & (galaxies.redshift < high)).all()


def test_red_galaxies_are_dead_and_line_emitters_form_stars():
    red, blue = (
        draw_population(300, np.random.default_rng(0), targets.GALAXIES[name])
        for name in ("lrg", "elg")
    )
    assert red.quiescent.mean() > 0.9
    assert np.median(red.log_mstar) > 11.3
    assert np.median(blue.log_ssfr) > -9.8
    assert np.percentile(blue.redshift, 95) > 1.4


def test_mixture_has_the_numbers_on_the_sky():
    drawn = targets.draw_tracers("mixed", 50_000, np.random.default_rng(0))
    total = sum(targets.MIXTURE.values())
    for name, density in targets.MIXTURE.items():
        assert (drawn == name).mean() == pytest.approx(density / total, abs=0.01)
    assert set(targets.draw_tracers("elg", 5, np.random.default_rng(0))) == {"elg"}


@pytest.fixture(scope="module")
def mixed():
    return simulate(256, seed=2, size=64, population="mixed")


def test_mixed_targets_are_whole_and_do_not_depend_on_the_request(mixed):
    part = simulate(30, seed=2, size=64, start=120, population="mixed")
    np.testing.assert_array_equal(part.spectra.flux, mixed.spectra.flux[120:150])
    np.testing.assert_array_equal(part.images.flux, mixed.images.flux[120:150])
    assert part.ids[0] == "synthetic-mixed-2-000000120"
    for name, column in part.columns.items():
        np.testing.assert_array_equal(column, mixed.columns[name][120:150])


def test_columns_are_empty_where_a_class_has_none(mixed):
    point = np.isin(mixed.columns["spectype"], ["QSO", "STAR"])
    assert 5 < point.sum() < 60
    for name in ("log_mstar_true", "age_catalogue", "votes_spiral", "r_eff"):
        np.testing.assert_array_equal(np.isnan(mixed.columns[name]), point)
    assert (mixed.columns["morphology_catalogue"][point] == "").all()
    assert set(mixed.columns["morphology_true"][point]) == {"point source"}
    assert np.isfinite(mixed.columns["redshift_true"]).all()
    assert np.isfinite(mixed.spectra.flux).all()
    assert np.isfinite(mixed.images.flux).all()


def test_points_are_as_sharp_as_the_seeing(mixed):
    """The second moment of bright stars' images against that of a PSF with its wings."""
    star = (mixed.columns["spectype"] == "STAR") & (mixed.columns["mag_r"] < 18)
    assert star.any()
    axis = (np.arange(64) - 31.5) * 0.262
    near = np.hypot(axis, axis[:, None]) < 1.5
    for image, fwhm in zip(mixed.images.flux[star, 1], mixed.columns["psf_r"][star], strict=True):
        weight = image * near
        found = (weight * axis**2).sum() / weight.sum()
        assert np.sqrt(found) == pytest.approx(0.42 * fwhm, rel=0.2)


def test_oxygen_doublet_is_resolved_at_high_redshift():
    """[O II] 3727, 3730 of a line-emitter at z > 1 are two peaks, in the noise-free limit."""
    survey = simulate(128, seed=3, size=64, population="elg")
    z = survey.columns["redshift_true"]
    slow = survey.columns["log_mstar_true"] < 10.5  # lines as narrow as most
    high = np.flatnonzero((z > 1) & (z < 1.55) & slow)
    rest = np.linspace(3715, 3742, 109)
    stack = np.zeros(len(rest))
    for row in high:
        spectrum = np.interp(rest * (1 + z[row]), desi_grid(), survey.spectra.flux[row])
        stack += spectrum / len(high)
    valley = stack[np.abs(rest - 3728.5) < 0.3].mean()
    peaks = [stack[np.abs(rest - line) < 0.3].mean() for line in (3727.1, 3729.9)]
    floor = np.median(stack[np.abs(rest - 3728.5) > 8])
    assert valley - floor < 0.75 * (min(peaks) - floor)
