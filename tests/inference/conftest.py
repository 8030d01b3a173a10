"""Two posteriors that are known exactly, fitted once."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig
from appulse.inference.posterior import Posterior, PosteriorConfig
from appulse.inference.prior import IndependentPrior, Normal, Uniform

SMALL = EstimatorConfig(width=32, depth=2, condition=32, time_power=0.0)
QUICK = PosteriorConfig(SMALL, FitConfig(steps=400, batch_size=128, learning_rate=5e-3))
SHORT = replace(QUICK, fit=FitConfig(steps=30, batch_size=64, checks=3))
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


@pytest.fixture(scope="session")
def posterior():
    long = replace(QUICK, fit=replace(QUICK.fit, steps=1500))
    return Posterior.fit(*fold(4000, 0), PRIOR, long, device="cpu")


@pytest.fixture(scope="session")
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
