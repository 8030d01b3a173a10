import math
from itertools import permutations

import pytest
import torch

from appulse.flow.path import (
    LinearPath,
    VariancePreservingPath,
    couple,
    marginal_log_density,
    marginal_velocity,
)

PATHS = [LinearPath(), VariancePreservingPath(), LinearPath(0.1), VariancePreservingPath(0.1)]
paths = pytest.mark.parametrize("path", PATHS, ids=str)


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@paths
def test_a_path_runs_from_noise_to_data(path, rng):
    data, noise = normal(rng, 2, 5, 3)
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(path.point(data, noise, 0 * ones), noise)
    end = data + path.sigma_min * noise
    torch.testing.assert_close(path.point(data, noise, ones)[:, :1], end[:, :1], atol=0.02, rtol=0)


def test_names_of_the_paths_are_true(rng):
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    now = VariancePreservingPath().schedule(t)
    torch.testing.assert_close(now.alpha**2 + now.sigma**2, torch.ones_like(t))
    data, noise = normal(rng, 2, 9, 2)
    steps = LinearPath().point(data[:1], noise[:1], t).diff(dim=0)  # straight, at constant speed
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


@paths
def test_velocities_are_the_derivatives_of_points(path, rng):
    data, noise = normal(rng, 2, 6, 3)
    t = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    h = 1e-6
    slope = (path.point(data, noise, t + h) - path.point(data, noise, t - h)) / (2 * h)
    torch.testing.assert_close(path.displacement(data, noise, t), slope, atol=1e-7, rtol=1e-6)
    x = path.point(data, noise, t)
    torch.testing.assert_close(path.conditional_velocity(x, t, data), slope, atol=1e-7, rtol=1e-6)


@paths
def test_conditional_density_is_that_of_the_points(path, rng):
    noise = normal(rng, 20_000, 1)
    data, t = torch.full((20_000, 1), 0.7).double(), torch.full((20_000,), 0.6).double()
    x = path.point(data, noise, t)
    grid = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    like = torch.ones_like(grid)
    log_p = path.conditional_log_density(grid[:, None], 0.6 * like, 0.7 * like[:, None])
    assert torch.trapezoid(log_p.exp(), grid).item() == pytest.approx(1, abs=1e-8)
    mean = torch.trapezoid(grid * log_p.exp(), grid).item()
    assert x.mean().item() == pytest.approx(mean, abs=0.02)


@paths
def test_marginal_velocity_is_the_closed_form_of_a_mixture(path, mixture, rng):
    data = mixture.sample(200_000, rng)
    x = normal(rng, 12, 2)
    t = torch.linspace(0.1, 0.7, 12, dtype=torch.float64)
    expected = mixture.velocity(path, x, t)
    torch.testing.assert_close(marginal_velocity(path, x, t, data), expected, atol=0.06, rtol=0.02)
    log_p = marginal_log_density(path, x, t, data)
    torch.testing.assert_close(log_p, mixture.log_density(path, x, t), atol=0.04, rtol=0)


@paths
def test_marginals_obey_the_continuity_equation(path, rng):
    data = normal(rng, 7, 2)
    x, t = normal(rng, 9, 2), torch.linspace(0.1, 0.8, 9, dtype=torch.float64)
    h = 1e-5

    def density(x, t):
        return marginal_log_density(path, x, t, data).exp()

    def flux(x, t):
        return density(x, t)[:, None] * marginal_velocity(path, x, t, data)

    change = (density(x, t + h) - density(x, t - h)) / (2 * h)
    for axis in torch.eye(2, dtype=torch.float64):
        change += ((flux(x + h * axis, t) - flux(x - h * axis, t)) @ axis) / (2 * h)
    scale = density(x, t).max().item()
    torch.testing.assert_close(change / scale, torch.zeros_like(t), atol=1e-6, rtol=0)


@paths
def test_the_rate_of_normal_data_is_their_marginal_velocity(path, rng):
    from .conftest import Mixture  # one standard normal component

    one = torch.ones(1, dtype=torch.float64)
    standard = Mixture(one, torch.zeros(1, 3, dtype=torch.float64), one)
    x, t = normal(rng, 5, 3), torch.linspace(0, 1, 5, dtype=torch.float64)
    rate = path.gaussian_rate(t)[:, None]
    torch.testing.assert_close(rate * x, standard.velocity(path, x, t))


def test_coupling_is_the_cheapest_permutation(rng):
    data, noise = normal(rng, 2, 6, 2)
    costs = [(data - noise[list(p)]).square().sum().item() for p in permutations(range(6))]
    paired = couple(data, noise)
    assert (data - paired).square().sum().item() == pytest.approx(min(costs))
    assert sorted(paired.tolist()) == sorted(noise.tolist())


def test_coupled_paths_are_straighter_than_independent_ones(rng):
    data = torch.where(normal(rng, 256, 1) > 0, 3.0, -3.0) + 0.1 * normal(rng, 256, 2)
    noise = normal(rng, 256, 2)
    assert (data - couple(data, noise)).square().mean() < 0.8 * (data - noise).square().mean()
    assert math.isclose(couple(data, noise).sum().item(), noise.sum().item(), abs_tol=1e-9)
