import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from appulse.inference import fitting
from appulse.inference.ensemble import learn_noise
from appulse.inference.estimator import Estimator, EstimatorConfig
from appulse.inference.evidence import gather
from appulse.inference.fitting import FitConfig, PosteriorConfig
from appulse.inference.noise import fit_noise
from appulse.inference.posterior import Posterior
from appulse.inference.prior import IndependentPrior, Uniform


def _still(names):
    """An estimator whose flow moves nothing, so that u is its noise."""
    kinds = gather({name: np.zeros((1, 2)) for name in names}).kinds
    estimator = Estimator(2, kinds, EstimatorConfig(width=8, depth=1)).eval()
    for weight in estimator.velocity.parameters():
        weight.data.zero_()
    return estimator


def test_mean_is_of_all_rows_and_scale_of_those_held_out():
    noise = torch.from_numpy(np.random.default_rng(0).normal(0.3, 1.0, (1, 4000, 3))).float()
    held = torch.arange(4000) < 2000
    noise[:, held] = 0.3 + 1.5 * (noise[:, held] - 0.3)
    means, scale = fit_noise(noise, held[None])
    assert means.numpy() == pytest.approx(0.3, abs=0.08)
    assert float(scale) == pytest.approx(1.5, abs=0.04)


def test_few_rows_change_little():
    means, scale = fit_noise(torch.full((1, 5, 1), 2.0), torch.arange(5)[None] < 1)
    assert 0 < float(means) < 0.25
    assert 1 < float(scale) < 1.05
    none = torch.zeros(1, 5, dtype=torch.bool)
    assert float(fit_noise(torch.zeros(1, 5, 1), none)[1]) == 1


@pytest.mark.parametrize("disagreement", [0.0, 0.5, 3.0])
def test_flows_that_disagree_are_as_wide_together_as_the_rows(disagreement):
    """Their mixture has the rows' variance, each row seen anew by one of them."""
    rng = np.random.default_rng(2)
    rows = rng.normal(0, 1.3, (20_000, 2))
    shifts = disagreement * rng.normal(size=(4, 20_000, 2))
    shifts -= shifts.mean(0)
    noise = torch.from_numpy(rows - shifts).float()
    held = torch.arange(20_000) % 4 == torch.arange(4)[:, None]
    means, scale = fit_noise(noise, held)
    drawn = shifts + float(scale) * rng.normal(size=shifts.shape)
    if disagreement < 1:
        assert drawn.std() == pytest.approx(1.3, rel=0.01)
    else:
        assert float(scale) == 0.5
    assert means.numpy() == pytest.approx(0, abs=0.05)


def test_density_and_samples_are_those_of_the_fitted_noise():
    """Each subset of the evidence has a normal of its own, which a flow at rest hands on."""
    rng = np.random.default_rng(1)
    estimator, blocks = _still("ab"), {name: np.zeros((6000, 2)) for name in "ab"}
    blocks["b"][:4000] = np.nan  # a third of the rows has both
    u = torch.from_numpy(rng.normal([1.0, -0.5], 2.0, (6000, 2))).float()
    u[4000:] = u[4000:] / 4
    evidence = gather(blocks)
    learn_noise([estimator], u, evidence, None, torch.arange(6000)[None] % 2 == 0)
    asked = gather({"a": np.zeros((2, 2)), "b": np.array([[np.nan] * 2, [0.0] * 2])})
    condition = estimator.condition(asked)
    noise = torch.from_numpy(rng.normal(size=(2, 20_000, 2))).float()
    made = estimator.sample(noise, condition)
    wide, narrow = 4 + (0.25**2 + 0.125**2) / 2, 0.25 + (0.5**2 + 0.25**2) / 2
    mixed = (2 / 3 * wide + 1 / 3 * narrow) ** 0.5  # about the mean of both, (.75, -.375)
    assert made[1].std(0).numpy() == pytest.approx(0.5, rel=0.05)
    assert made[1].mean(0).numpy() == pytest.approx([0.25, -0.125], abs=0.03)
    assert made[0].mean(0).numpy() == pytest.approx([0.75, -0.375], abs=0.06)
    assert made[0].std(0).mean().item() == pytest.approx(mixed, rel=0.05)
    points = torch.tensor([[0.0, 0.0], [2.0, -1.0]])[None].repeat(2, 1, 1)
    law = Normal(condition.noise.mean[:, None], condition.noise.scale[:, None, None])
    np.testing.assert_allclose(
        estimator.log_prob(points, condition).detach(), law.log_prob(points).sum(-1), rtol=1e-4
    )
    assert condition.take(torch.tensor([1])).noise.scale.tolist() == pytest.approx(
        [condition.noise.scale[1].item()]
    )


def test_standard_noise_until_it_has_learned():
    estimator = _still("a")
    condition = estimator.condition(gather({"a": np.zeros((1, 2))}))
    density = estimator.log_prob(torch.zeros(1, 1, 2), condition)
    assert density.item() == pytest.approx(-math.log(2 * math.pi))


def test_rows_held_out_are_those_that_a_member_did_not_learn_from(monkeypatch):
    learned, noise, batches = [], {}, fitting._batches
    monkeypatch.setattr(
        fitting, "_batches", lambda rows, *o: learned.append(rows.u.tolist()) or batches(rows, *o)
    )
    monkeypatch.setattr(
        fitting, "learn_noise", lambda _, u, *o: noise.update(u=u.tolist(), held=o[-1].tolist())
    )
    theta = np.random.default_rng(3).normal(size=(200, 1))
    config = PosteriorConfig(EstimatorConfig(width=8, depth=1), FitConfig(steps=2), members=2)
    Posterior.fit(theta, theta, IndependentPrior({"a": Uniform(-9.0, 9.0)}), config, device="cpu")
    assert np.sum(noise["held"], 1).tolist() == [20, 20]
    assert not np.any(np.all(noise["held"], 0))  # others for each
    for held, u in zip(noise["held"], learned, strict=True):
        assert len(u) == 180
        assert [row not in u for row in noise["u"]] == held


def test_each_of_many_members_holds_something_out():
    held = fitting._held_out(25, 20, 0.1)
    assert (held.sum(1) == 2).all()
    assert held.any(0).all()
