import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appulse.survey.synthetic import history


def one(start=10.0, timescale=3.0, quenched=0.0, burst=1.0, residual=0.0):
    arguments = (start, timescale, quenched, burst, residual)
    return history.mass_fractions(*(np.array([float(x)]) for x in arguments))


@given(
    st.floats(3, 13.5),
    st.floats(0.15, 12),
    st.floats(0, 0.9),
    st.floats(0.1, 10),
    st.floats(1e-14, 1e-11),
)
def test_all_mass_is_formed_after_the_start(start, timescale, quenched, burst, residual):
    fraction = one(start, timescale, quenched * start, burst, residual)
    assert fraction.sum() == pytest.approx(1)
    assert (fraction >= 0).all()
    assert fraction[0, history.AGE_EDGE[:-1] > start].sum() == 0
    populations = history.by_population(fraction)
    assert populations.sum() == pytest.approx(1)
    assert (populations >= 0).all()
    assert 0 < history.mean_age(populations)[0] < start


def test_delayed_exponential_has_its_closed_form():
    start, tau = 10.0, 4.0
    fraction = one(start, tau)
    mean_time = tau * (2 - (start / tau) ** 2 / (np.exp(start / tau) - 1 - start / tau))
    age = history.mean_age(history.by_population(fraction))[0]
    assert age == pytest.approx(start - mean_time, abs=0.03)
    total = tau**2 * (1 - np.exp(-start / tau) * (1 + start / tau))
    now = start * np.exp(-start / tau) / total / 1e9
    assert history.log_ssfr_recent(fraction)[0] == pytest.approx(np.log10(now), abs=0.03)
    before = (1 + (start - 1) / tau) * np.exp(-(start - 1) / tau)
    last = (before - (1 + start / tau) * np.exp(-start / tau)) * tau**2 / total / 1e9
    assert history.log_ssfr(fraction)[0] == pytest.approx(np.log10(last), abs=1e-6)


def test_ages_of_bursts_are_continuous():
    """Nothing piles up at the ages of the stellar populations, nor at the ends of steps."""
    starts = np.linspace(8, 13, 400)
    rest = np.tile([[0.15], [0.0], [1.0], [1e-13]], (1, 400))
    ages = history.mean_age(history.by_population(history.mass_fractions(starts, *rest)))
    assert (np.diff(ages) > 0).all()
    assert np.diff(ages).max() < 3 * np.diff(starts).max()


def test_burst_and_trickle_change_recent_stars_alone():
    burst, plain = one(burst=4), one()
    assert history.log_ssfr_recent(burst)[0] > history.log_ssfr_recent(plain)[0] + 0.5
    assert history.log_ssfr(burst)[0] == pytest.approx(history.log_ssfr(plain)[0], abs=0.15)
    dead = one(timescale=0.2, quenched=9.0, residual=1e-12)
    for rate in (history.log_ssfr(dead), history.log_ssfr_recent(dead)):
        assert rate[0] == pytest.approx(-12, abs=1e-3)


def test_bins_meet_the_averaging_times_of_the_labels():
    assert history.AGE_EDGE[np.sum(history.RECENT)] == pytest.approx(0.1)
    assert history.AGE_EDGE[np.sum(history.LAST_GYR)] == pytest.approx(1)
    assert np.diff(history.AGE_EDGE).max() < history.STEP + 1e-9
