from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal

from appulse.inference.fitting import FitConfig
from appulse.tasks import anomaly
from appulse.tasks.anomaly import EmbeddingDensity, find_anomalies


def ring(n, seed, width=8):
    """A ring in two of many dimensions, noise in the others."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    vectors = 0.1 * rng.normal(size=(n, width))
    vectors[:, :2] += np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return vectors.astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def short_fit():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomaly, "FIT", replace(anomaly.FIT, fit=FitConfig(steps=500)))
        patch.setattr(anomaly, "COMPONENTS", 5)
        yield


@pytest.fixture(scope="module")
def found():
    """Usual ones, then one in the middle of the ring and one far out."""
    odd = ring(2, 5)
    odd[0, :2], odd[1, 7] = 0, 2.0
    return find_anomalies(np.concatenate([ring(300, 1), odd]), ring(1000, 0))


def test_what_is_not_like_the_reference_is_found_either_way(found):
    for chance in (found.distance_chance, found.density_chance):
        assert chance[-1] < 0.01
    assert found.density_chance[-2] < 0.1  # nobody is in the middle, if near to many


def test_what_is_odd_in_a_small_difference_is_far_when_whitened():
    """Two of six features agree within .1; of half of the galaxies they do not."""

    def agreeing(n, seed):
        x = np.random.default_rng(seed).normal(size=(n, 6))
        x[:, 5] = x[:, 0] + 0.1 * x[:, 5]
        return x

    odd = agreeing(40, 1)
    odd[:20, 5] += 1
    chance, plain = (
        find_anomalies(odd, agreeing(1000, 0), whitened=whitened).distance_chance
        for whitened in (True, False)
    )
    assert np.median(chance[:20]) < 0.02
    assert np.median(chance[20:]) > 0.2
    assert np.median(plain[:20]) > 0.2


def test_chances_are_uniform_among_the_usual(found):
    for chance in (found.distance_chance, found.density_chance):
        assert kstest(chance[:300], "uniform").pvalue > 1e-3


def test_the_density_of_a_gaussian_is_its_own():
    rng = np.random.default_rng(0)
    covariance = np.diag(np.linspace(2, 0.1, 8))
    train, test = (rng.multivariate_normal(np.zeros(8), covariance, n) for n in (1000, 200))
    ours = EmbeddingDensity.fit(train).log_prob(test)
    expected = multivariate_normal(cov=covariance).logpdf(test)
    error = (ours - ours.mean()) - (expected - expected.mean())
    assert error.std() < 0.5 * expected.std()


def test_a_small_reference_is_refused():
    with pytest.raises(ValueError, match="reference has 20 rows; expected 50 or more"):
        find_anomalies(ring(5, 0), ring(20, 1))


@pytest.mark.parametrize("rows", [48, 70])
def test_a_density_of_few_rows_in_many_dimensions_is_like_a_gaussians(rows, monkeypatch):
    """Galaxies five times as far out are less likely, by about what they should be."""
    monkeypatch.setattr(anomaly, "COMPONENTS", 3)
    rng = np.random.default_rng(0)
    scatter = np.concatenate([[5.0, 3.0], np.full(62, 0.3)])
    train, test = (scatter * rng.normal(size=(n, 64)) for n in (rows, 200))
    far = 5 * test
    density = EmbeddingDensity.fit(train)
    usual, odd = density.log_prob(test), density.log_prob(far)
    assert usual.std() < 40  # 6 for the true density
    assert (odd < usual.min()).mean() > 0.95
    truth = multivariate_normal(cov=np.diag(scatter**2))
    gap = np.median(truth.logpdf(test) - truth.logpdf(far))
    assert np.median(usual - odd) == pytest.approx(gap, rel=0.7)
    assert np.corrcoef(usual, truth.logpdf(test))[0, 1] > 0.5
