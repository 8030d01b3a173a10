import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from appulse.metrics import accuracy, r2
from appulse.tasks import neighbours, network, probes
from appulse.tasks.probes import KNNProbe, MLPProbe, RidgeProbe


def make(n, seed, width=8):
    """Features, two smooth targets, three classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    y = np.stack([np.tanh(x[:, 0] + x[:, 1]), 100 + 5 * x[:, 2] ** 2], axis=1)
    y += [0.1, 1.0] * rng.normal(size=y.shape)
    names = np.array(["elliptical", "spiral", "edge-on"])[np.digitize(x[:, 0], [-0.6, 0.6])]
    return x.astype(np.float32), y, names


@pytest.fixture(scope="module")
def parts():
    return make(1200, 0), make(400, 1), make(500, 2)


@pytest.mark.parametrize("k", [4, 16])
def test_neighbours_are_sklearns(parts, monkeypatch, k):
    (x, y, names), _, (x_test, _, _) = parts
    monkeypatch.setattr(probes, "NEIGHBOURS", (k,))
    regressor = KNeighborsRegressor(k, weights="distance").fit(x, y)
    predicted = KNNProbe(x, y).predict(x_test)
    np.testing.assert_allclose(predicted, regressor.predict(x_test), rtol=1e-4)
    classifier = KNeighborsClassifier(k, weights="distance").fit(x, names)
    voted = KNNProbe(x, names).predict(x_test)
    assert np.mean(voted == classifier.predict(x_test)) > 0.995


def test_what_hides_on_small_axes_is_found_by_whitening(parts, monkeypatch):
    """Features that share most of their scatter: what one has beside is the target.

    Expected are sklearn's neighbours among standardised features times (C + ridge)^-1/2.
    """
    monkeypatch.setattr(probes, "NEIGHBOURS", (8,))

    def seen(part):
        return 10 * part[0][:, [7]] + part[0][:, :3], part[0][:, [0]]

    (x, y), held_out, (x_test, y_test) = map(seen, parts)
    probe = KNNProbe.fit(x, y, *held_out)
    predicted, plain = probe.predict(x_test), KNNProbe(x, y).predict(x_test)
    assert r2(predicted[:, 0], y_test[:, 0]) > r2(plain[:, 0], y_test[:, 0]) + 0.05
    mean, std = x.mean(0, dtype=float), x.std(0, dtype=float)
    variance, axes = np.linalg.eigh(np.corrcoef(x.T.astype(float)))
    root = axes / np.sqrt(variance + neighbours.RIDGE) @ axes.T / std[:, None]
    regressor = KNeighborsRegressor(8, weights="distance").fit((x - mean) @ root, y)
    expected = regressor.predict((x_test - mean) @ root)
    np.testing.assert_allclose(predicted, expected, rtol=1e-3, atol=1e-3)


def test_noise_on_small_axes_stays_small(parts):
    """One large axis is the target, twenty small ones are noise."""

    def seen(part, seed):
        noise = np.random.default_rng(seed).normal(size=(len(part[0]), 20))
        return np.hstack([part[0][:, :1], 0.01 * noise]), part[0][:, :1]

    (x, y), held_out, (x_test, _) = map(seen, parts, range(3))
    probe, plain = KNNProbe.fit(x, y, *held_out), KNNProbe(x, y)
    plain.neighbours = probe.neighbours
    np.testing.assert_array_equal(probe.predict(x_test), plain.predict(x_test))


def test_the_number_of_neighbours_is_the_best_on_validation(parts):
    (x, _, _), (x_val, _, _), _ = parts
    rng = np.random.default_rng(5)
    noise, noise_val = rng.normal(size=(len(x), 1)), rng.normal(size=(len(x_val), 1))
    smooth, smooth_val = np.sign(x[:, :1]), np.sign(x_val[:, :1])
    y = np.concatenate([noise, smooth], axis=1)
    probe = KNNProbe.fit(x, y, x_val, np.concatenate([noise_val, smooth_val], axis=1))
    assert probe.neighbours[0] == max(probes.NEIGHBOURS)  # pure noise: average all you can
    assert probe.neighbours[1] < max(probes.NEIGHBOURS)


def test_unknown_neighbours_are_left_out(parts, monkeypatch):
    """A target known for half of the galaxies is predicted as if the others were not there."""
    (x, y, _), _, (x_test, _, _) = parts
    monkeypatch.setattr(probes, "NEIGHBOURS", (1200,))
    known = np.arange(len(x)) % 2 == 0
    holes = np.where(known[:, None], y, np.nan)
    predicted = KNNProbe(x, holes).predict(x_test)
    weight = 1 / np.linalg.norm(x_test[:, None] - x[known][None], axis=2)
    expected = weight @ y[known] / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4)


def test_no_known_neighbour_gives_the_mean():
    x = np.arange(40.0)[:, None]
    y = np.where(x < 5, x, np.nan)
    predicted = KNNProbe.fit(x, y, x[:5], y[:5]).predict(np.array([[39.0]]))
    assert predicted[0, 0] == pytest.approx(2.0)


def test_ridge_is_the_closed_form(parts, monkeypatch):
    """(XᵀX + λ)⁻¹ Xᵀy of what is centred, over the galaxies that have the target."""
    (x, y, _), (x_val, y_val, _), (x_test, _, _) = parts
    monkeypatch.setattr(probes, "PENALTIES", (30.0,))
    holes = np.where((np.arange(len(x)) % 3 == 0)[:, None], y, np.nan)
    holes[:, 1] = y[:, 1]
    found = RidgeProbe.fit(x, holes, x_val, y_val).predict(x_test)
    mean, std = x.mean(0, dtype=float), x.std(0, dtype=float)
    for k, known in enumerate(np.isfinite(holes).T):
        seen, target = ((x - mean) / std)[known], y[known, k]
        middle, level = seen.mean(0), target.mean()
        inner = (seen - middle).T @ (seen - middle) + 30 * np.eye(x.shape[1])
        slope = np.linalg.solve(inner, (seen - middle).T @ (target - level))
        expected = level + ((x_test - mean) / std - middle) @ slope
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-6)


def test_the_penalty_is_the_best_on_validation(parts):
    """Few galaxies: noise is best left alone, a clean slope is not."""
    (x, _, names), (x_val, _, names_val), (x_test, _, names_test) = parts
    rng = np.random.default_rng(6)
    y, y_val = (np.stack([rng.normal(size=len(v)), v[:, 0]], axis=1) for v in (x[:30], x_val))
    probe = RidgeProbe.fit(x[:30], y, x_val, y_val)
    assert probe.lines[0].alpha >= 1000
    assert probe.lines[1].alpha == min(probes.PENALTIES)
    told = RidgeProbe.fit(x, names, x_val, names_val)
    assert accuracy(told.predict(x_test), names_test) > 0.85
    assert len({line.alpha for line in told.lines}) == 1


@pytest.mark.parametrize(("learner", "r2_limit"), [(KNNProbe, 0.55), (MLPProbe, 0.93)])
def test_probes_learn(parts, learner, r2_limit):
    (x, y, names), (x_val, y_val, names_val), (x_test, y_test, names_test) = parts
    predicted = learner.fit(x, y, x_val, y_val).predict(x_test)
    assert predicted.shape == y_test.shape
    assert r2(predicted[:, 0], y_test[:, 0]) > r2_limit
    classes = learner.fit(x, names, x_val, names_val).predict(x_test)
    assert set(classes) <= set(names)
    assert accuracy(classes, names_test) > r2_limit


def test_mlp_learns_whatever_the_scales(parts):
    scales = 10.0 ** np.arange(-3, 5)
    (x, y, _), (x_val, y_val, _), (x_test, y_test, _) = parts
    predicted = MLPProbe.fit(x * scales, y, x_val * scales, y_val).predict(x_test * scales)
    assert r2(predicted[:, 0], y_test[:, 0]) > 0.93


def test_mlp_needs_only_the_known_targets(parts):
    (x, y, _), (x_val, y_val, _), (x_test, y_test, _) = parts
    holes, holes_val = y.copy(), y_val.copy()
    holes[::3, 0] = np.nan
    holes_val[::2, 1] = np.nan
    predicted = MLPProbe.fit(x, holes, x_val, holes_val).predict(x_test)
    assert r2(predicted[:, 0], y_test[:, 0]) > 0.9
    assert r2(predicted[:, 1], y_test[:, 1]) > 0.8


def test_mlp_keeps_its_best_epoch(parts, monkeypatch):
    """Stopped at any patience, validation is no worse than after the first epoch."""
    (x, y, _), (x_val, y_val, _), _ = parts
    noise, noise_val = y[:, :1] - x[:, :1], np.random.default_rng(0).permutation(y_val[:, :1])

    def validation_error(epochs):
        monkeypatch.setattr(network, "EPOCHS", epochs)
        predicted = MLPProbe.fit(x, noise, x_val, noise_val).predict(x_val)
        return np.mean((predicted - noise_val) ** 2)

    assert validation_error(12) <= validation_error(1)


def test_mlp_depends_on_its_seed_alone_and_leaves_torchs_state(parts, monkeypatch):
    monkeypatch.setattr(network, "EPOCHS", 3)
    (x, y, _), (x_val, y_val, _), (x_test, _, _) = parts
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = MLPProbe.fit(x, y, x_val, y_val, seed=3).predict(x_test)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    again = MLPProbe.fit(x, y, x_val, y_val, seed=3).predict(x_test)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, MLPProbe.fit(x, y, x_val, y_val, seed=4).predict(x_test))


@pytest.mark.parametrize("learner", [KNNProbe, MLPProbe])
def test_features_that_are_not_finite_are_refused(parts, learner):
    (x, y, _), (x_val, y_val, _), _ = parts
    x = x.copy()
    x[17, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 1200 rows of features are not finite: rows \[17\]"):
        learner.fit(x, y, x_val, y_val)


def test_a_constant_feature_is_harmless(parts, monkeypatch):
    monkeypatch.setattr(network, "EPOCHS", 2)
    (x, y, _), (x_val, y_val, _), (x_test, _, _) = parts
    x, x_val, x_test = (np.c_[a, np.full(len(a), 3.0)] for a in (x, x_val, x_test))
    assert np.isfinite(MLPProbe.fit(x, y, x_val, y_val).predict(x_test)).all()


@pytest.mark.parametrize("learner", [KNNProbe, MLPProbe])
def test_a_batch_of_one_is_a_batch(parts, learner, monkeypatch):
    monkeypatch.setattr(network, "EPOCHS", 2)
    (x, y, names), (x_val, y_val, names_val), (x_test, _, _) = parts
    assert learner.fit(x, y, x_val, y_val).predict(x_test[:1]).shape == (1, 2)
    assert learner.fit(x, names, x_val, names_val).predict(x_test[:1]).shape == (1,)
