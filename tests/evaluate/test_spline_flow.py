import numpy as np
import pytest
import torch
from scipy.stats import norm

from appulse.evaluate.spline_flow import SplineFlow, SplinePosterior


@pytest.fixture
def flow():
    torch.manual_seed(0)
    flow = SplineFlow(3, 2).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return flow


def test_log_prob_is_that_of_the_transformed_noise(flow):
    """Change of variables with the slope from autograd, inside the bound and beyond it."""
    density = flow(torch.randn(9, 3, dtype=torch.float64))
    noise = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None].repeat(1, 2).requires_grad_()
    theta = density.transform(noise)
    (slope,) = torch.autograd.grad(theta.sum(), noise)
    expected = norm.logpdf(noise.detach().numpy()) - slope.log().numpy()
    np.testing.assert_allclose(density.log_prob(theta.detach()).detach().numpy(), expected)


def test_a_density_integrates_to_one(flow):
    noise = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None].repeat(1, 2)
    density = flow(torch.ones(1, 3, dtype=torch.float64).expand(len(noise), 3))
    theta = density.transform(noise)  # dense where the density is high
    p = density.log_prob(theta).exp().detach().numpy()
    np.testing.assert_allclose(np.trapezoid(p, theta.detach().numpy(), axis=0), 1, atol=1e-3)


def test_the_posterior_of_a_line_with_noise_is_found():
    rng = np.random.default_rng(0)

    def make(n):
        x = rng.uniform(0, 10, (n, 1))
        return x, 50 + 3 * x + 2 * rng.normal(size=(n, 1))

    (x, theta), validation, (x_test, theta_test) = make(1500), make(300), make(300)
    posterior = SplinePosterior.fit(x, theta, *validation)
    best = norm.logpdf(theta_test, 50 + 3 * x_test, 2).mean()
    assert best - 0.05 < posterior.log_prob(theta_test, x_test).mean() < best + 0.02
    samples = posterior.sample(x_test[:50], 400)
    np.testing.assert_allclose(np.median(samples, 1), 50 + 3 * x_test[:50], atol=1.2)
    low, high = np.percentile(samples, [16, 84], axis=1)
    np.testing.assert_allclose((high - low).mean() / 2, 2, rtol=0.1)
