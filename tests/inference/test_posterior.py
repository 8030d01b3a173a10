import json
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, multivariate_normal, norm, truncnorm

from appulse.inference.calibration import coverage, tarp, uniform_chance
from appulse.inference.estimator import Estimator, EstimatorConfig
from appulse.inference.fitting import BestWeights, FitConfig
from appulse.inference.posterior import CHUNK, Posterior, PosteriorConfig
from appulse.inference.prior import IndependentPrior, Normal, Uniform
from appulse.training.run import load_weights, save_tensors

SMALL = EstimatorConfig(width=32, depth=2, condition=32, time_power=0.0)
QUICK = PosteriorConfig(SMALL, FitConfig(steps=400, batch_size=128, learning_rate=5e-3))
PRIOR = IndependentPrior({"a": Uniform(-2.0, 2.0), "b": Normal(1.0, 2.0)})
SD = 0.4


def fold(n, seed):
    """Only |a| is seen: the posterior of `a` has two peaks; that of `b` is a normal."""
    theta = PRIOR.sample(n, seed).numpy()
    rng = np.random.default_rng(seed)
    seen = np.stack([np.abs(theta[:, 0]), theta[:, 1]], 1)
    return theta, seen + SD * rng.normal(size=seen.shape)


def exact(x):
    """Densities of `a` on a grid, and mean and sd of `b`, at one observation."""
    grid = np.linspace(-2, 2, 801)
    density = norm(np.abs(grid), SD).pdf(x[0])
    width = 1 / np.sqrt(1 / 4 + 1 / SD**2)
    return grid, density / np.trapezoid(density, grid), width**2 * (1 / 4 + x[1] / SD**2), width


@pytest.fixture(scope="module")
def posterior():
    long = replace(QUICK, fit=replace(QUICK.fit, steps=1500))
    return Posterior.fit(*fold(4000, 0), PRIOR, long, device="cpu")


@pytest.fixture(scope="module")
def linear():
    """Named evidence whose posterior is known for every subset: θ ~ N(0, I), blocks with noise."""
    prior = IndependentPrior({"a": Normal(), "b": Normal()})
    theta = prior.sample(3000, 1).numpy()
    rng = np.random.default_rng(1)
    context = {
        "image": theta + rng.normal(size=theta.shape),
        "spectrum": theta[:, :1] + 0.5 * rng.normal(size=(3000, 1)),
    }
    config = replace(QUICK, fit=replace(QUICK.fit, steps=150))
    return Posterior.fit(theta, context, prior, config, device="cpu")


X = np.array([[1.0, 0.0], [0.2, 3.0]])


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


def test_a_fit_drops_what_its_rows_ask_for():
    few = replace(QUICK, fit=replace(QUICK.fit, steps=2))
    fitted = Posterior.fit(*fold(1000, 0), PRIOR, few, device="cpu")
    layers = [m for m in fitted.members[0].network.modules() if isinstance(m, torch.nn.Dropout)]
    assert [layer.p for layer in layers] == [0.1, 0.1]


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


def test_a_saved_posterior_is_the_same(posterior, tmp_path):
    posterior.save(tmp_path / "saved")
    again = Posterior.load(tmp_path / "saved", device="cpu")
    assert again.config == posterior.config
    assert np.array_equal(again.sample(X, 50), posterior.sample(X, 50))
    assert again.prior.names == ("a", "b")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]


def test_what_is_no_posterior_is_refused(tmp_path, posterior):
    with pytest.raises(ValueError, match=r"no config.json"):
        Posterior.load(tmp_path)
    posterior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "posterior": {"a": {}}}))
    with pytest.raises(ValueError, match="a is of kind None"):
        Posterior.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no posterior"):
        Posterior.load(tmp_path)


SHORT = replace(QUICK, fit=FitConfig(steps=30, batch_size=64, checks=3))


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


def test_an_equal_seed_gives_an_equal_posterior_and_a_run_goes_on(tmp_path):
    theta, x = fold(300, 3)
    first = Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path / "run", device="cpu")
    other = Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")
    assert np.array_equal(first.sample(X, 5), other.sample(X, 5))
    assert first.losses == Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path / "run").losses
    with pytest.raises(ValueError, match="holds a run with another configuration"):
        Posterior.fit(theta[1:], x[1:], PRIOR, SHORT, run=tmp_path / "run", device="cpu")


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    theta, x = fold(300, 3)
    whole = Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")
    look = BestWeights.look

    def interrupted(self, estimator):
        signal.raise_signal(signal.SIGINT)  # Ctrl-C, once the first check has found weights
        return look(self, estimator)

    monkeypatch.setattr(BestWeights, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path, device="cpu")
    monkeypatch.undo()
    assert (tmp_path / "member-0" / "resume.safetensors").exists()
    again = Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path, device="cpu")
    assert again.losses == whole.losses
    assert np.array_equal(again.sample(X, 5), whole.sample(X, 5))


def test_the_weights_of_the_best_validation_loss_are_kept(tmp_path):
    theta, x = fold(60, 3)
    long = FitConfig(steps=300, batch_size=32, checks=30, learning_rate=1e-2)
    posterior = Posterior.fit(theta, x, PRIOR, replace(QUICK, fit=long), run=tmp_path, device="cpu")
    lines = (tmp_path / "member-0" / "metrics.jsonl").read_text().splitlines()
    losses = [m["validation"] for m in map(json.loads, lines) if "validation" in m]
    assert losses[-1] > min(losses)  # 54 rows are soon learnt by heart
    assert posterior.losses == [min(losses)]


def test_refitting_goes_on_from_the_weights(posterior):
    theta, x = fold(1000, 7)
    more = FitConfig(steps=20, batch_size=128, learning_rate=1e-5)
    again = posterior.refit(theta, x, more)
    change = np.abs(again.sample(X, 200) - posterior.sample(X, 200))
    assert 0 < change.mean() < 0.05  # by what the new rows say of the noise
    with pytest.raises(ValueError, match="3 features; in training it held vectors of 2"):
        posterior.refit(theta, np.zeros((1000, 3)))


@pytest.mark.parametrize(
    ("theta", "x", "message"),
    [
        (np.full((30, 2), 0.5), np.zeros((30, 1)), "a is 0.5 in every row"),
        (np.full((30, 2), 3.0), np.zeros((30, 1)), r"excludes 30 of 30 rows.*a is 3.*widen"),
        (np.full((30, 2), np.nan), np.zeros((30, 1)), "30 rows of theta are NaN"),
        (np.zeros((30, 3)), np.zeros((30, 1)), "3 columns; the prior has 2 parameters: a, b"),
        (np.zeros((30, 2)), np.zeros((29, 1)), "one row of parameters for each"),
        (np.zeros((5, 2)), np.zeros((5, 1)), "5 rows; expected 20 or more"),
        (np.zeros((30, 2)), np.full((30, 1), np.nan), "30 numbers that are NaN"),
    ],
)
def test_bad_training_rows_are_refused(theta, x, message):
    with pytest.raises(ValueError, match=message):
        Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")


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


def test_what_a_caller_wants_kept_is_kept(linear, tmp_path):
    linear.about["model_hash"] = "abc"
    linear.save(tmp_path)
    assert Posterior.load(tmp_path, "cpu").about == {"model_hash": "abc"}


def test_few_rows_of_many_features_do_not_make_it_too_sure():
    """300 rows of 75 features: a regression alone would fit a fourth of the noise away."""
    rng = np.random.default_rng(0)
    prior, x = IndependentPrior({"a": Normal()}), rng.normal(size=(1300, 75))
    theta = x @ rng.normal(size=(75, 1)) / 10 + 0.5 * rng.normal(size=(1300, 1))
    config = replace(QUICK, fit=replace(QUICK.fit, steps=60))
    posterior = Posterior.fit(theta[:300], x[:300], prior, config, device="cpu")
    inside = coverage(posterior.sample(x[300:], 200), theta[300:], [0.68, 0.95]).inside[:, 0]
    assert inside == pytest.approx([0.68, 0.95], abs=0.06)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitConfig(steps=0), "steps is 0"),
        (lambda: FitConfig(checks=0), "checks is 0"),
        (lambda: FitConfig(average=0.0), r"average is 0\.0"),
        (lambda: PosteriorConfig(members=0), "members is 0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_draws_and_blocks_that_no_row_has_are_refused(posterior):
    for ask in (posterior.sample, posterior.intervals):
        with pytest.raises(ValueError, match="samples is 0; expected 1 or more"):
            ask(X, n=0)
    theta, x = fold(100, 0)
    with pytest.raises(ValueError, match="no row has 'b'; leave that block out"):
        Posterior.fit(theta, {"a": x, "b": np.full((100, 2), np.nan)}, PRIOR, QUICK)


def test_refitting_may_lack_a_block(linear):
    theta = linear.prior.sample(100, 0).numpy()
    again = linear.refit(theta, {"image": theta}, FitConfig(steps=2))
    assert list(again.kinds) == ["image", "spectrum"]


def test_weights_of_another_version_are_named(posterior, tmp_path):
    posterior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["estimator"]["width"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="weights that do not fit its settings"):
        Posterior.load(tmp_path)


@pytest.fixture(scope="module")
def apart():
    """Half of the rows have one block, half the other; 19 rows have both."""
    theta = PRIOR.sample(200, 0).numpy()
    image, spectrum = theta.copy(), theta[:, :1].copy()
    image[:90], spectrum[109:] = np.nan, np.nan
    few = replace(QUICK, fit=replace(QUICK.fit, steps=2))
    return Posterior.fit(theta, {"image": image, "spectrum": spectrum}, PRIOR, few, device="cpu")


def test_evidence_that_too_few_rows_had_together_is_refused(apart, tmp_path):
    both = {"image": np.ones((3, 2)), "spectrum": np.ones((3, 1))}
    both["spectrum"][0] = np.nan
    assert apart.answers(both).tolist() == [True, False, False]
    apart.save(tmp_path)
    for asked in (apart, Posterior.load(tmp_path, "cpu")):
        for ask in (
            asked.sample,
            asked.map,
            asked.intervals,
            partial(asked.log_prob, X[[0, 0, 0]]),
        ):
            with pytest.raises(ValueError, match="row 1 has image and spectrum, which too few"):
                ask(both)
        assert asked.sample(image=both["image"], n=5).shape == (3, 5, 2)


def test_older_posteriors_refuse_nothing(apart, tmp_path):
    apart.save(tmp_path)
    older = {n: w for n, w in load_weights(tmp_path).items() if not n.endswith("held")}
    save_tensors(tmp_path / "weights.safetensors", older)
    again = Posterior.load(tmp_path, "cpu")
    assert again.answers(image=np.ones((1, 2)), spectrum=np.ones((1, 1))).all()


def test_refitting_learns_what_came_together_since(apart):
    theta = PRIOR.sample(20, 1).numpy()
    both = {"image": theta, "spectrum": theta[:, :1]}
    assert not apart.answers(both).any()
    assert apart.refit(theta, both, FitConfig(steps=2)).answers(both).all()


def test_loading_leaves_random_numbers_alone(apart, tmp_path):
    apart.save(tmp_path)
    before = torch.get_rng_state()
    Posterior.load(tmp_path, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
