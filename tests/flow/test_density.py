import math

import pytest
import torch

from appulse.flow.density import invert, log_density
from appulse.flow.ode import solve
from appulse.flow.path import LinearPath, VariancePreservingPath

from .conftest import Mixture

PATHS = [LinearPath(), VariancePreservingPath()]


def exact_field(mixture, path=PATHS[0]):
    return lambda x, t, rows: mixture.velocity(path, x, t.expand(len(x)))


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_density_is_the_closed_form_of_a_mixture(mixture, path, method, rng):
    x = mixture.sample(50, rng)
    log_p = log_density(exact_field(mixture, path), x, method=method, steps=64)
    expected = mixture.log_density(path, x, torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(log_p, expected, atol=5e-3, rtol=0)


def test_density_integrates_to_one_on_a_line():
    line = Mixture(
        torch.tensor([0.5, 0.5]).double(),
        torch.tensor([[-1.0], [1.5]]).double(),
        torch.tensor([0.3, 0.8]).double(),
    )
    grid = torch.linspace(-5, 6, 400, dtype=torch.float64)
    density = log_density(exact_field(line), grid[:, None], steps=32).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=0.005)


def test_samples_are_the_mixture_and_invert_to_their_noise(mixture, rng):
    noise = torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    field = exact_field(mixture)
    x = solve(field, noise, method="dopri5")
    left = x[:, 0] < -0.4
    assert left.double().mean().item() == pytest.approx(0.31, abs=0.03)
    assert x[left].std(0).tolist() == pytest.approx([0.3, 0.3], abs=0.06)
    back = invert(field, x[:200], method="dopri5")
    torch.testing.assert_close(back, noise[:200], atol=1e-3, rtol=0)


def linear(matrix):
    return lambda x, t, rows: x @ matrix.T


@pytest.mark.parametrize("width", [3, 20])
def test_linear_flows_have_the_density_of_their_gaussian(width, rng):
    matrix = 0.3 * torch.randn(width, width, generator=rng, dtype=torch.float64) / width**0.5
    x = torch.randn(30, width, generator=rng, dtype=torch.float64)
    carry = torch.linalg.matrix_exp(matrix)
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros(width, dtype=torch.float64), carry @ carry.T
    )
    probes = None if width == 3 else 400  # above 16 the trace is estimated
    log_p = log_density(linear(matrix), x, steps=8, probes=probes, generator=rng)
    tolerance = 1e-5 if width == 3 else 0.2
    torch.testing.assert_close(log_p, gaussian.log_prob(x), atol=tolerance, rtol=0)


def test_one_probe_is_unbiased(rng):
    matrix = torch.tensor([[0.2, 0.9], [0.5, -0.4]], dtype=torch.float64)
    x = torch.zeros(20_000, 2, dtype=torch.float64)
    single = log_density(linear(matrix), x, steps=4, probes=1, generator=rng)
    assert single.std() > 0.1
    exact = -matrix.trace().item() - math.log(2 * math.pi)
    assert single.mean().item() == pytest.approx(exact, abs=4 * single.std().item() / 20_000**0.5)


def test_wide_data_use_the_estimator_by_default(rng):
    matrix = torch.randn(17, 17, generator=rng, dtype=torch.float64) / 17
    x = torch.zeros(2, 17, dtype=torch.float64)
    log_p = log_density(linear(matrix), x, steps=2, generator=rng)
    assert abs(log_p[0] - log_p[1]) > 1e-6  # equal rows, different probes
