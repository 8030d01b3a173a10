import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import kstest, norm

from appulse.inference.mixture import Mixture, fit_mixture

CORE, WIDE, SHARE = 1e-3, 0.5, 0.05
KNOWN = Mixture(*(torch.tensor(value).double() for value in (CORE, WIDE, SHARE)))
PLAIN = Mixture(*(torch.tensor(value).double() for value in (1.0, 1.0, 0.0)))


def distribution(x):
    return (1 - SHARE) * norm.cdf(x / CORE) + SHARE * norm.cdf(x / WIDE)


@pytest.fixture(scope="module")
def residuals():
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(20_000) < SHARE, WIDE, CORE)
    return torch.from_numpy(sizes * rng.normal(size=20_000))


def test_residuals_become_normal(residuals):
    assert kstest(KNOWN.normal(residuals), "norm").pvalue > 0.01
    assert kstest(fit_mixture(residuals).normal(residuals), "norm").pvalue > 0.01


def test_the_fit_finds_both_sizes(residuals):
    found = fit_mixture(residuals)
    assert [float(a) for a in found] == pytest.approx([CORE, WIDE, SHARE], rel=0.06)


@pytest.mark.parametrize("size", [-4.0, -1.5, 0.0, 0.3, 2.1, 6.0])
def test_quantiles_are_those_of_the_distribution(size):
    expected = brentq(lambda x: distribution(x) - norm.cdf(size), -4.0, 4.0, xtol=1e-14)
    found = KNOWN.residual(torch.tensor(size).double()).item()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-10)
    assert KNOWN.normal(torch.tensor(found).double()).item() == pytest.approx(size, abs=1e-6)


def test_the_slope_is_the_derivative():
    rest = torch.tensor([-0.7, -2e-3, 1e-4, 4e-3, 0.2]).double()
    size = 1e-7 * rest.abs()
    numeric = (KNOWN.normal(rest + size) - KNOWN.normal(rest - size)) / (2 * size)
    torch.testing.assert_close(KNOWN.log_slope(rest), numeric.log(), rtol=1e-4, atol=1e-4)


def test_what_has_no_large_residuals_stays_as_it_is(residuals):
    for mapped in (PLAIN.normal(residuals), PLAIN.residual(residuals)):
        assert torch.equal(mapped, residuals)
    assert (PLAIN.log_slope(residuals) == 0).all()
    beside = Mixture(*(torch.stack(pair) for pair in zip(PLAIN, KNOWN, strict=True)))
    both = beside.normal(residuals[:5, None].expand(5, 2))
    assert torch.equal(both[:, 0], residuals[:5])
    torch.testing.assert_close(both[:, 1], KNOWN.normal(residuals[:5]))


def test_no_residual_is_too_large():
    far = torch.tensor([1e9, -1e9]).double()
    assert KNOWN.normal(far).isfinite().all()
    assert KNOWN.residual(torch.tensor([30.0]).double()).isfinite().all()
