from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, multivariate_normal, truncnorm

from appulse.inference.calibration import coverage, tarp, uniform_chance
from appulse.inference.estimator import Estimator
from appulse.inference.posterior import CHUNK, Posterior
from appulse.inference.prior import IndependentPrior, Normal, Uniform

from .conftest import PRIOR, QUICK, SHORT, X, exact, fold


def test_samples_have_the_exact_distribution(posterior):
    samples = posterior.sample(X, 4000, seed=1)
    for x, drawn in zip(X, samples, strict=True):
        grid, density, mean, width = exact(x)
        cumulative = np.cumsum(density) * (grid[1] - grid[0])
        assert (
            kstest(drawn[:, 0], lambda a, c=cumulative, g=grid: np.interp(a, g, c)).statistic < 0.06
        )
        assert drawn[:, 1].mean() == pytest.approx(mean, abs=0.15 * width)
        assert drawn[:, 1].std() == pytest.approx(width, rel=0.12)


def test_density_is_exact_and_integrates_to_one(posterior):
    step = 4 / 48
    a = b = np.arange(48) * step - 2 + step / 2  # middles: the bounds are left out
    theta = np.stack(np.meshgrid(a, b, indexing="ij"), -1).reshape(1, -1, 2)
    marginal = np.exp(posterior.log_prob(theta, X[:1])).reshape(48, 48).sum(1) * step
    assert marginal.sum() * step == pytest.approx(1, abs=0.005)
    grid, expected, *_ = exact(X[0])
    assert np.abs(marginal - np.interp(a, grid, expected)).mean() < 0.08


def test_no_sample_is_outside_the_prior_and_no_density(posterior):
    far = np.array([[1.99, 0.0], [-50.0, 0.0], [300.0, 500.0]])
    samples = posterior.sample(far, 2000)
    assert (np.abs(samples[..., 0]) <= 2).all()
    outside = np.array([[2.01, 0.0], [-2.01, 0.0]])
    assert (posterior.log_prob(outside, X) == -np.inf).all()


def test_the_posterior_is_calibrated_and_the_checks_would_tell(posterior):
    theta, x = fold(400, 9)
    samples = posterior.sample(x, 100)
    assert (uniform_chance(samples, theta) > 0.001).all()
    assert tarp(samples, theta).deviation < 0.1
    centre = samples.mean(1, keepdims=True)
    assert coverage(centre + 0.5 * (samples - centre), theta).deviation > 0.15


def test_density_of_several_points_is_that_of_each(posterior):
    theta = posterior.sample(X, 3)
    together = posterior.log_prob(theta, X)
    for i in range(3):
        assert posterior.log_prob(theta[:, i], X) == pytest.approx(together[:, i], abs=1e-4)


def test_the_map_is_the_peak(posterior):
    found = posterior.map(X)
    grid, density, mean, width = exact(X[0])
    assert np.interp(found[0, 0], grid, density) > 0.75 * density.max()
    assert found[0, 1] == pytest.approx(mean, abs=0.3 * width)
    best = posterior.log_prob(found, X)
    learned = 0.05  # nats between the two peaks, which are equally high in truth
    assert (best >= posterior.log_prob(posterior.sample(X, 300), X).max(1) - learned).all()


def test_intervals_are_quantiles(posterior):
    found = posterior.intervals(X, levels=(0.5, 0.9), n=4000)
    samples = posterior.sample(X, 4000)
    expected = np.quantile(samples, [0.25, 0.05, 0.75, 0.95], axis=1)
    assert found.median == pytest.approx(np.median(samples, 1))
    assert found.low == pytest.approx(np.moveaxis(expected[:2], 0, 1))
    assert found.high == pytest.approx(np.moveaxis(expected[2:], 0, 1))
    with pytest.raises(ValueError, match="levels are"):
        posterior.intervals(X, levels=(68.0,))


def test_an_observation_alone_and_among_many_has_the_same_posterior(posterior):
    many = posterior.sample(np.tile(X, (600, 1)), 4)[1::2].reshape(-1, 2)
    alone = posterior.sample(X[1:], 2400)[0]
    for column in range(2):
        assert ks_2samp(many[:, column], alone[:, column]).pvalue > 0.01


@pytest.mark.parametrize(("observations", "n"), [(100_000, 4), (3, 5000)])
def test_work_in_hand_stays_small(posterior, monkeypatch, capsys, observations, n):
    sizes = []

    def instead(self, noise, condition):  # of solving an ODE 400,000 times
        sizes.append(noise.shape[0] * noise.shape[1])
        return noise

    monkeypatch.setattr(Estimator, "sample", instead)
    found = posterior.intervals(np.tile(X[:1], (observations, 1)), n=n)
    assert found.median.shape == (observations, 2)
    assert max(sizes) <= CHUNK
    assert sum(sizes) == observations * n
    assert ("posteriors" in capsys.readouterr().err) == (observations > 1000)


@pytest.mark.parametrize("names", [("image", "spectrum"), ("image",), ("spectrum",)])
def test_any_subset_of_the_evidence_has_its_own_posterior(linear, names):
    seen = {"image": np.array([[1.0, -1.0]]), "spectrum": np.array([[0.5]])}
    precision, weighted = np.eye(2), np.zeros(2)  # of the prior N(0, I)
    if "image" in names:
        precision, weighted = precision + np.eye(2), weighted + seen["image"][0]
    if "spectrum" in names:
        precision[0, 0] += 4
        weighted[0] += 4 * 0.5
    covariance = np.linalg.inv(precision)
    samples = linear.sample({name: seen[name] for name in names}, 4000)[0]
    assert samples.mean(0) == pytest.approx(covariance @ weighted, abs=0.1)
    assert np.cov(samples.T) == pytest.approx(covariance, abs=0.1)
    theta = np.array([[0.4, -0.3]])
    found = linear.log_prob(theta, {name: seen[name] for name in names})
    expected = multivariate_normal(covariance @ weighted, covariance).logpdf(theta)
    assert found == pytest.approx(expected, abs=0.15)


def test_bounded_parameters_get_their_truncated_posterior():
    prior = IndependentPrior({"a": Uniform(0.0, 1.0)})
    theta = prior.sample(4000).numpy()
    x = theta + 0.3 * np.random.default_rng(0).normal(size=theta.shape)
    config = replace(QUICK, fit=replace(QUICK.fit, steps=300))
    samples = Posterior.fit(theta, x, prior, config, device="cpu").sample(np.array([[0.1]]), 4000)
    expected = truncnorm(-0.1 / 0.3, 0.9 / 0.3, 0.1, 0.3)
    assert kstest(samples[0, :, 0], expected.cdf).statistic < 0.05


def test_sets_are_the_more_certain_the_larger_they_are():
    prior = IndependentPrior({"a": Normal()})
    theta = prior.sample(3000).numpy()
    rng = np.random.default_rng(0)
    sets = [t + rng.normal(size=(rng.integers(1, 9), 1)) for t in theta]
    long = replace(QUICK, fit=replace(QUICK.fit, steps=1200))
    posterior = Posterior.fit(theta, sets, prior, long, device="cpu")
    for n in (1, 3, 8):
        asked = [rng.normal(size=(n, 1)) for _ in range(60)]
        drawn = posterior.sample(asked, 200)[..., 0]
        exact = np.array([members.sum() / (1 + n) for members in asked])
        assert np.abs(drawn.mean(1) - exact).mean() < 0.15
        assert np.mean(drawn.std(1)) == pytest.approx(1 / np.sqrt(1 + n), rel=0.2)


def test_an_ensemble_averages_densities_and_shares_samples():
    theta, x = fold(300, 3)
    pair = Posterior.fit(theta, x, PRIOR, replace(SHORT, members=2), device="cpu")
    singles = [
        Posterior(PRIOR, pair.kinds, replace(SHORT), [m], [0.0], torch.device("cpu"))
        for m in pair.members
    ]
    points = theta[:2]
    each = np.stack([single.log_prob(points, X) for single in singles])
    assert not np.allclose(each[0], each[1], atol=1e-3)
    expected = np.log(np.exp(each).mean(0))
    assert pair.log_prob(points, X) == pytest.approx(expected, abs=1e-5)
    assert pair.sample(X, 1).shape == (2, 1, 2)
    drawn = pair.sample(X, 9, seed=4)
    for k, single in enumerate(singles):
        alone = single.sample(X, 9, seed=4)
        for row, first in ((0, k), (1, 1 - k)):  # 9 draws later it is the other's turn
            assert drawn[row, first::2] == pytest.approx(alone[row, first::2], abs=1e-4)


def test_bad_questions_are_refused(posterior):
    with pytest.raises(ValueError, match="of 3 features; in training it held vectors of 2"):
        posterior.sample(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="NaN"):
        posterior.sample(np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match=r"shape \(1, 2\); expected 2 rows"):
        posterior.log_prob(np.zeros((1, 2)), X)
    with pytest.raises(ValueError, match="and 2 parameters: a, b"):
        posterior.log_prob(np.zeros((2, 3)), X)


def test_evidence_comes_by_name_or_as_one(linear):
    image, spectrum = np.ones((2, 2)), np.zeros((2, 1))
    whole = {"image": image, "spectrum": spectrum}
    by_name = linear.sample(image=image, spectrum=spectrum, n=20)
    np.testing.assert_array_equal(by_name, linear.sample(whole, 20))
    theta = np.zeros((2, 2))
    assert (linear.log_prob(theta, image=image) == linear.log_prob(theta, {"image": image})).all()
    with pytest.raises(ValueError, match=r"as one context or as \['image'\], not both"):
        linear.sample(whole, image=image)


def test_members_take_turns_over_observations():
    """Of one draw for each, half are of either member; of three, too."""
    posterior = Posterior.fit(
        *fold(200, 0), PRIOR, replace(QUICK, fit=replace(QUICK.fit, steps=2), members=2)
    )
    for parameter in posterior.members[1].parameters():
        parameter.fill_(torch.nan)
    x = np.repeat(X[:1], 40, 0)
    for n in (1, 3, 4):
        assert np.isnan(posterior.sample(x, n)[..., 0]).mean() == 0.5


def test_densities_of_many_parameters_are_exact():
    """Above 16 parameters, a divergence estimated from one probe would differ at every call."""
    prior = IndependentPrior({f"p{k}": Normal() for k in range(18)})
    theta = prior.sample(200, 0).numpy()
    config = replace(QUICK, fit=replace(QUICK.fit, steps=5))
    posterior = Posterior.fit(theta, theta[:, :2], prior, config, device="cpu")
    first, second = (posterior.log_prob(theta[:3], theta[:3, :2]) for _ in range(2))
    assert np.array_equal(first, second)
