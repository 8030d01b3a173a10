import numpy as np
import pytest

from appulse.survey.synthetic import history
from appulse.survey.synthetic.population import draw_population
from appulse.survey.synthetic.ssp import METALLICITY
from appulse.survey.synthetic.targets import BRIGHT_LIMIT, FAINT_LIMIT
from appulse.units import flux_to_magnitude


@pytest.mark.parametrize(
    ("column", "percentiles", "expected", "tolerance"),
    [
        ("redshift", (1, 50, 99), (0.025, 0.17, 0.43), 0.03),
        ("log_mstar", (16, 50, 84), (10.1, 10.85, 11.3), 0.1),
        ("log_zsol", (5, 50, 95), (-0.64, -0.16, 0.13), 0.07),
        ("age", (5, 50, 95), (3.7, 6.6, 9.7), 0.4),
        ("a_v", (16, 50, 84), (0.035, 0.19, 0.63), 0.05),
    ],
)
def test_spreads_stay_as_measured(population, column, percentiles, expected, tolerance):
    found = np.percentile(getattr(population, column), percentiles)
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_obeys_the_limits(population):
    r = flux_to_magnitude(population.flux[:, 1])
    assert ((r > BRIGHT_LIMIT) & (r < FAINT_LIMIT)).all()
    assert r.max() > FAINT_LIMIT - 0.02


@pytest.mark.parametrize("column", ["redshift", "log_mstar", "age", "log_zsol", "log_ssfr"])
def test_labels_are_finite_and_never_pile_up(population, column):
    value = getattr(population, column)
    assert np.isfinite(value).all()
    assert np.unique(value, return_counts=True)[1].max() == 1


def test_metallicity_stays_inside_the_stellar_grid(population):
    assert population.log_zsol.min() > METALLICITY[0]
    assert population.log_zsol.max() < METALLICITY[-1]


def test_labels_follow_from_the_history(population):
    for limit, rate in ((0.1, population.log_ssfr_recent), (1.0, population.log_ssfr)):
        young = population.mass_fraction[:, limit > history.SSP_AGE].sum(1)  # their light agrees
        assert np.quantile(np.abs(rate - np.log10(young / limit / 1e9)), 0.95) < 0.1
    np.testing.assert_allclose(population.age, population.mass_fraction @ history.SSP_AGE)
    assert (population.log_ssfr[population.quiescent] < -11).mean() > 0.8


def test_first_galaxies_do_not_depend_on_the_number():
    few, many = (draw_population(n, np.random.default_rng(1)) for n in (10, 500))
    np.testing.assert_array_equal(few.flux, many.flux[:10])
