"""A Gaussian mixture: its marginal path, velocity and density are known in closed form."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from appulse.flow.path import Path


class Mixture(NamedTuple):
    """Spherical components: weights (K,), means (K, D), standard deviations (K,)."""

    weights: Tensor
    means: Tensor
    sds: Tensor

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        pick = torch.multinomial(self.weights, n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], generator=rng, dtype=self.means.dtype)
        return self.means[pick] + self.sds[pick, None] * noise

    def _terms(self, path: Path, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        now = path.schedule(t[:, None])
        away = x[:, None] - now.alpha[..., None] * self.means  # (B, K, D)
        variance = now.alpha**2 * self.sds**2 + now.sigma**2
        dim = x.shape[1]
        log_joint = (
            self.weights.log()
            - 0.5 * away.square().sum(-1) / variance
            - 0.5 * dim * (2 * math.pi * variance).log()
        )
        rate = now.alpha * now.alpha_rate * self.sds**2 + now.sigma * now.sigma_rate
        drift = now.alpha_rate[..., None] * self.means + (rate / variance)[..., None] * away
        return log_joint, drift

    def log_density(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        return self._terms(path, x, t)[0].logsumexp(1)

    def velocity(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        log_joint, drift = self._terms(path, x, t)
        return (log_joint.softmax(1)[..., None] * drift).sum(1)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    return Mixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5, 0.5], [1.0, -0.5]], dtype=torch.float64),
        torch.tensor([0.3, 0.6], dtype=torch.float64),
    )
