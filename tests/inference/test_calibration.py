"""Each check must pass calibrated posteriors and catch three faults, whose cause is known."""

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.ensemble import RandomForestClassifier

from appulse.inference.calibration import coverage, crps, pit, sbc_ranks, tarp, uniform_chance
from appulse.inference.local_c2st import local_c2st

B, S, D = 1500, 200, 2
FAULTS = {"over-confident": (0.0, 0.6), "under-confident": (0.0, 1.6), "biased": (0.6, 1.0)}
faults = pytest.mark.parametrize("fault", FAULTS)


def drawn(fault=None, seed=0, observations=B):
    """θ ~ N(0, 1), x = θ + N(0, 1): the posterior is N(x / 2, 1/2), or a faulty version of it."""
    shift, width = FAULTS.get(fault, (0.0, 1.0))
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(observations, D))
    x = theta + rng.normal(size=theta.shape)
    noise = rng.normal(size=(observations, S, D))
    return x[:, None] / 2 + np.sqrt(0.5) * (shift + width * noise), theta, x


def test_ranks_are_counts():
    samples = np.tile(np.arange(20.0)[None, :, None], (20, 1, 1))
    assert sbc_ranks(samples, np.full((20, 1), 4.5))[0] == 5
    assert sbc_ranks(samples, np.full((20, 1), -1.0))[0] == 0
    assert sbc_ranks(samples, np.full((20, 1), 99.0))[0] == 20


def test_calibrated_posteriors_pass():
    samples, theta, _ = drawn()
    assert (uniform_chance(samples, theta) > 0.01).all()
    assert coverage(samples, theta).deviation < 0.05
    assert tarp(samples, theta).deviation < 0.05
    ranks = sbc_ranks(samples, theta)
    assert ranks.mean() / S == pytest.approx(0.5, abs=0.02)
    assert np.var((ranks + 0.5) / (S + 1)) == pytest.approx(1 / 12, abs=0.005)


def test_pit_is_uniform_even_for_few_samples():
    samples, theta, _ = drawn()
    assert kstest(pit(samples[:, :20], theta)[:, 0], "uniform").pvalue > 0.01


@faults
def test_sbc_ranks_show_the_fault_and_its_kind(fault):
    ranks = sbc_ranks(*drawn(fault)[:2]) / S
    edges, middle = np.mean((ranks < 0.1) | (ranks > 0.9)), np.mean(np.abs(ranks - 0.5) < 0.1)
    if fault == "over-confident":
        assert edges > 0.3
    elif fault == "under-confident":
        assert edges < 0.12
        assert middle > 0.25
    else:
        assert ranks.mean() < 0.4


@faults
def test_pit_catches(fault):
    assert (uniform_chance(*drawn(fault)[:2]) < 1e-6).all()


@faults
def test_coverage_catches(fault):
    curve = coverage(*drawn(fault)[:2])
    assert curve.deviation > 0.06
    if fault != "under-confident":
        assert curve.excess < -0.02
    else:
        assert curve.excess > 0.02


@faults
def test_tarp_catches(fault):
    assert tarp(*drawn(fault)[:2]).deviation > 0.06


def test_tarp_catches_a_fault_that_no_single_parameter_shows():
    samples, theta, _ = drawn()
    mean = samples.mean(1, keepdims=True)
    away = samples - mean
    correlated = mean + np.stack([away[..., 0], away[..., 0]], -1)  # right marginals, wrong joint
    assert coverage(correlated, theta).deviation < 0.06
    assert tarp(correlated, theta).deviation > 0.06


def test_coverage_is_the_normal_one():
    samples, theta, _ = drawn("over-confident", observations=4000)
    found = coverage(samples, theta, [0.68, 0.95]).inside
    z = norm.ppf([0.84, 0.975]) * 0.6
    assert found.mean(1) == pytest.approx(2 * norm.cdf(z) - 1, abs=0.03)


def test_crps_is_the_closed_form_of_a_normal():
    rng = np.random.default_rng(0)
    theta = np.linspace(-2, 2, 20)[:, None]
    z = theta[:, 0]
    expected = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
    found = crps(rng.normal(size=(20, 20_000, 1)), theta)[:, 0]
    assert found == pytest.approx(expected, abs=0.02)


def test_crps_of_few_samples_is_unbiased():
    samples, theta, _ = drawn()
    few = np.mean([crps(samples[:, i : i + 20], theta).mean() for i in range(0, S, 20)])
    assert few == pytest.approx(crps(samples, theta).mean(), rel=0.01)


@faults
def test_crps_prefers_the_true_posterior(fault):
    assert crps(*drawn(fault)[:2]).mean() > 1.03 * crps(*drawn()[:2]).mean()


def local(fault, at):
    """A posterior that has the fault at x > 0 only."""
    right, theta, x = drawn(observations=4000)
    wrong = drawn(fault, observations=4000)[0]
    samples = np.where((x[:, :1] > 0)[:, None], wrong, right)
    shift, width = FAULTS.get(fault, (0.0, 1.0)) if at > 0 else (0.0, 1.0)
    x_obs, sd = np.full(2, at), np.sqrt(0.5)
    z = np.random.default_rng(1).normal(size=(500, 2))
    q = x_obs / 2 + shift * sd + sd * width * z
    return local_c2st(theta, x, samples[:, 0], q, x_obs, permutations=30)


@faults
def test_local_c2st_catches(fault):
    assert local(fault, at=1.0).chance < 0.05


def test_local_c2st_passes_what_is_right():
    assert local(None, at=1.0).chance > 0.05


def test_too_little_is_refused():
    samples, theta, _ = drawn()
    with pytest.raises(ValueError, match="10 observations with 200 samples"):
        sbc_ranks(samples[:10], theta[:10])
    with pytest.raises(ValueError, match="NaN"):
        crps(samples * np.nan, theta)


def test_local_c2st_takes_classifiers_that_have_a_length():
    """An unfitted forest raises when asked for it."""
    rng = np.random.default_rng(0)
    x, drawn = rng.normal(size=(2, 100, 1))
    forest = RandomForestClassifier(5, random_state=0)
    found = local_c2st(x, x, drawn, drawn[:20], x[0], classifier=forest, permutations=3)
    assert len(found.null) == 3
