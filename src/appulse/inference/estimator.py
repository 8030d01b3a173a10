"""One flow of p(u | evidence): regression, context network and velocity network together.

Shapes: B observations, S samples, D parameters (as u, in which the prior is N(0, I)).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..flow.density import invert, log_density
from ..flow.ode import Rows, solve
from ..flow.velocity import VelocityConfig, VelocityNetwork, draw_times, matching_loss
from .adjustment import Coordinates, RegressionAdjustment
from .context import ContextNetwork
from .evidence import Evidence, Kind
from .noise import Noise, SubsetNoise

SAMPLE_STEPS = 16  # midpoint
DENSITY_STEPS = 16  # RK4: a density is wrong as soon as it is not normalised


@dataclass(frozen=True)
class EstimatorConfig:
    """Sizes of the networks."""

    width: int = 128
    depth: int = 4
    condition: int = 64  # width of what time and context are mixed to
    dropout: float | None = None  # of the context network's hidden units; None: by the rows
    time_power: float = 1.0  # density of training times ∝ t^power
    outliers: bool = False  # whether few rows may lie far from what a linear fit expects


class Condition(NamedTuple):
    """What one observation fixes: a context, what r is in u, and the noise that r comes from."""

    context: Float[Tensor, "B C"]
    coordinates: Coordinates
    noise: Noise

    def take(self, rows: Int[Tensor, "N"]) -> "Condition":
        """Those of some observations."""
        coordinates = Coordinates(*(a[rows] for a in self.coordinates))
        return Condition(self.context[rows], coordinates, Noise(*(a[rows] for a in self.noise)))


class Estimator(nn.Module):
    """Flow matching posterior estimation (Wildberger et al. 2023) in regression coordinates.

    Attributes:
        held: Which subsets of the evidence enough training rows held, by number.
    """

    held: Tensor

    def __init__(self, dim: int, kinds: dict[str, Kind], config: EstimatorConfig):
        super().__init__()
        self.config = config
        self.adjustment = RegressionAdjustment(dim, kinds, config.outliers)
        self.network = ContextNetwork(kinds, config.width)
        sizes = VelocityConfig(dim, config.width, config.width, config.depth, config.condition)
        self.velocity = VelocityNetwork(sizes)
        self.noise = SubsetNoise(dim, 2 ** len(kinds))
        self.register_buffer("held", torch.zeros(2 ** len(kinds), dtype=torch.bool))

    def learn_scales(self, u: Float[Tensor, "B D"], evidence: Evidence) -> Float[Tensor, "B P D"]:
        """Fits the regression and the standardisation of the inputs; before training.

        Returns:
            How far each row pulled the regression towards itself, see `loss`.
        """
        self.network.learn_scales(evidence)
        return self.adjustment.learn(u, evidence)

    def condition(
        self, evidence: Evidence, pull: Float[Tensor, "B P D"] | None = None
    ) -> Condition:
        """What the evidence fixes."""
        coordinates = self.adjustment(evidence, pull)
        return Condition(self.network(evidence), coordinates, self.noise(evidence.subset))

    def loss(
        self,
        u: Float[Tensor, "B D"],
        evidence: Evidence,
        pull: Float[Tensor, "B P D"] | None = None,
        draws: int = 1,
    ) -> Float[Tensor, ""]:
        """Mean squared error of the velocity, each row at `draws` random times.

        Args:
            pull: Of rows that the regression was fitted on, so that they look as new ones do.
        """
        condition = self.condition(evidence, pull)
        r = condition.coordinates.r(u[:, None])[:, 0].repeat(draws, 1)
        context = condition.context.repeat(draws, 1)
        t = draw_times(len(r), self.config.time_power, r.device)
        return matching_loss(self.velocity, r, torch.randn_like(r), t, context).mean()

    @torch.no_grad()
    def carry_back(
        self, u: Float[Tensor, "B D"], evidence: Evidence, pull: Float[Tensor, "B P D"] | None
    ) -> Float[Tensor, "B D"]:
        """The noise that would become u."""
        condition = self.condition(evidence, pull)
        r, field = condition.coordinates.r(u[:, None]), self._field(condition.context)
        return invert(field, r, method="midpoint", steps=SAMPLE_STEPS)[:, 0]

    @torch.no_grad()
    def sample(self, noise: Float[Tensor, "B S D"], condition: Condition) -> Float[Tensor, "B S D"]:
        """Noise carried to u."""
        field = self._field(condition.context)
        start = condition.noise.scaled(noise)
        r = solve(field, start, method="midpoint", steps=SAMPLE_STEPS)
        return condition.coordinates.u(r)

    def log_prob(self, u: Float[Tensor, "B S D"], condition: Condition) -> Float[Tensor, "B S"]:
        """Log density of u in nats; differentiable."""
        r = condition.coordinates.r(u)
        density = log_density(
            self._field(condition.context),
            r,
            method="rk4",
            steps=DENSITY_STEPS,
            exact_up_to=r.shape[-1],
            log_noise=condition.noise.log_prob,
        )
        return density + condition.coordinates.log_slope(u)

    def _field(self, context: Tensor) -> Any:
        rows_of_samples = context[:, None]

        def field(x: Tensor, t: Tensor, rows: Rows) -> Tensor:
            return self.velocity(x, t, rows_of_samples[rows])

        return field
