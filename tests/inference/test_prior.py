import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm

from appulse.inference.correlated import CorrelatedPrior
from appulse.inference.prior import (
    IndependentPrior,
    LogNormal,
    Normal,
    Positive,
    Prior,
    Uniform,
)
from appulse.inference.truncation import TruncatedPrior, prior_from

MIXED = IndependentPrior(
    {"z": Uniform(-1.0, 0.3), "mass": Normal(10.0, 2.0), "flux": LogNormal(0.5, 0.7)}
)
BENT = IndependentPrior({"z": Positive(0.1, 0.1, 0.003), "w": Positive(-1.0, 2.0, 0.5)})
JOINT = CorrelatedPrior([1.0, -1.0], [[2.0, 0.6], [0.6, 1.0]], ["a", "b"])
CUT = TruncatedPrior(MIXED, torch.tensor([-1.0, 0.2, -9.0]), torch.tensor([0.5, 0.9, 9.0]))
priors = pytest.mark.parametrize(
    "prior", [MIXED, JOINT, CUT, BENT], ids=["mixed", "joint", "cut", "bent"]
)


def test_marginals_have_the_distributions_they_are_named_for():
    theta = MIXED.sample(20_000, seed=1).numpy()
    assert kstest((theta[:, 0] + 1) / 1.3, "uniform").pvalue > 0.01
    assert kstest((theta[:, 1] - 10) / 2, "norm").pvalue > 0.01
    assert kstest((np.log(theta[:, 2]) - 0.5) / 0.7, "norm").pvalue > 0.01
    assert np.cov(JOINT.sample(50_000).numpy().T) == pytest.approx(
        np.array([[2.0, 0.6], [0.6, 1.0]]), abs=0.05
    )


def test_a_cut_normal_is_scipys_truncated_normal():
    theta = CUT.sample(20_000, seed=2)[:, 1].numpy()
    assert kstest(theta, truncnorm(0.2, 0.9, 10, 2).cdf).pvalue > 0.01


@priors
def test_parameters_become_exactly_standard_normal(prior: Prior):
    u = prior.normal(prior.sample(20_000, seed=3)).numpy()
    for column in u.T:
        assert kstest(column, "norm").pvalue > 0.01
    back = prior.theta(torch.from_numpy(u))
    torch.testing.assert_close(prior.normal(back), torch.from_numpy(u), atol=1e-6, rtol=0)


@priors
def test_the_slope_is_the_jacobian_of_the_map(prior: Prior):
    u = prior.normal(prior.sample(5, seed=4))
    for row in u:
        jacobian = torch.autograd.functional.jacobian(lambda v: prior.theta(v[None])[0], row)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(prior.log_slope(row[None])[0], expected, atol=1e-8, rtol=0)


def test_densities_are_the_known_ones():
    theta = torch.tensor([[0.0, 11.0, 2.0]], dtype=torch.float64)
    expected = -math.log(1.3) + norm(10, 2).logpdf(11)
    expected += norm(0.5, 0.7).logpdf(math.log(2)) - math.log(2)
    assert MIXED.log_prob(theta).item() == pytest.approx(expected)
    mass = (norm.cdf(0.5) - norm.cdf(-1)) * (norm.cdf(0.9) - norm.cdf(0.2))
    inside = torch.tensor([[-0.5, 11.0, 2.0]], dtype=torch.float64)
    difference = CUT.log_prob(inside) - MIXED.log_prob(inside)
    assert difference.item() == pytest.approx(-math.log(mass))
    assert MIXED.log_prob(torch.tensor([[0.31, 11.0, 2.0]]).double()).item() == -math.inf
    assert CUT.log_prob(theta + torch.tensor([0, 9.0, 0])).item() == -math.inf


def test_a_bent_normal_stays_positive_and_is_linear_beyond_the_bend():
    theta = BENT.theta(torch.tensor([[-9.0, -50.0], [0.0, 3.0]]).double())
    assert (theta > 0).all()
    assert theta[1].tolist() == pytest.approx([0.1, 5.0], rel=1e-4)


@pytest.mark.parametrize("far", [5.0, 50.0, 1e6, math.inf])
def test_nothing_reaches_beyond_the_bounds(far):
    u = torch.tensor([[far] * 3, [-far] * 3], dtype=torch.float64)
    theta = MIXED.theta(u)
    assert not MIXED.outside(theta)[:, 0].any()
    assert (theta[:, 2] > 0).all()
    assert not CUT.outside(CUT.theta(u.clamp(-100, 100))).any()


def test_values_on_a_bound_are_inside_and_finite():
    edges = torch.tensor([[-1.0, 0.0, 1.0], [0.3, 0.0, 1.0]], dtype=torch.float64)
    MIXED.check(edges)
    assert MIXED.normal(edges).isfinite().all()


def test_excluded_rows_are_named():
    theta = MIXED.sample(10)
    theta[[3, 7], 2] = -1.0
    with pytest.raises(
        ValueError, match=r"excludes 2 of 10 rows, first row 3: flux is -1, .*widen"
    ):
        MIXED.check(theta)
    with pytest.raises(ValueError, match="2 columns; the prior has 3 parameters: z, mass, flux"):
        MIXED.check(theta[:, :2])
    cut = CUT.sample(5)
    cut[0, 1] = 20.0
    with pytest.raises(ValueError, match=r"mass is 20, expected 10.4 to 11.8"):
        CUT.check(cut)


@priors
def test_a_prior_survives_json(prior: Prior):
    again = prior_from(json.loads(json.dumps(prior.describe())))
    theta = prior.sample(20)
    torch.testing.assert_close(again.log_prob(theta), prior.log_prob(theta))
    assert again.names == prior.names


def test_impossible_priors_are_refused():
    with pytest.raises(ValueError, match=r"low is 2.0 and high 1.0"):
        Uniform(2.0, 1.0)
    for kind in (Normal, LogNormal, partial(Positive, bend=1.0)):
        with pytest.raises(ValueError, match=r"sd is 0.0"):
            kind(0.0, 0.0)
    with pytest.raises(ValueError, match="positive definite"):
        CorrelatedPrior([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="no parameters"):
        IndependentPrior({})
    with pytest.raises(ValueError, match="no prior mass"):
        TruncatedPrior(MIXED, torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="a is of kind 'Cauchy'"):
        prior_from({"a": {"kind": "Cauchy"}})


def test_a_parameter_may_have_any_name():
    prior = IndependentPrior({"covariance": Normal(1.0, 2.0), "truncated": Uniform(0.0, 1.0)})
    again = prior_from(json.loads(json.dumps(prior.describe())))
    assert again.names == ("covariance", "truncated")
    assert again.describe() == prior.describe()


@pytest.mark.parametrize(
    "covariance", [[[1.0, 0.9], [0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
)
def test_a_covariance_must_be_one(covariance):
    with pytest.raises(ValueError, match="expected"):
        CorrelatedPrior([0.0, 0.0], covariance)
