"""From a simulator and an observation to a posterior, in one call.

Shapes: N simulations, D parameters, F outputs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ..digest import digest
from .novelty import Novelty, TooFewError, novelty
from .posterior import Posterior, PosteriorConfig
from .prior import Prior
from .simulations import Simulations, Simulator, kept_theta, run_simulations
from .truncation import EmptyBoxError, TruncatedPrior

MARGIN = 0.25  # of the box around the posterior's samples, in units of its width
SAMPLES = 2000
CHECKED = 200  # posterior predictive simulations


@dataclass(frozen=True, eq=False)
class Inference:
    """What was inferred from one observation, and whether to believe it."""

    posterior: Posterior
    x_obs: Float[np.ndarray, "F"]
    simulations: Simulations  # those inside the last round's prior; failures of all rounds
    novelty: Novelty  # of the observation among the simulations of the first round
    check: Novelty  # of the observation among simulations from the posterior

    @property
    def warnings(self) -> list[str]:
        """Reasons not to trust the posterior; none is no proof."""
        found = []
        if self.novelty.flagged:
            found.append(
                f"the observation is far outside the simulations ({self.novelty}): "
                "the simulator or the prior does not describe it"
            )
        if not np.isfinite(self.check.distance):
            found.append("simulations from the posterior failed, so nothing confirms it")
        elif self.check.flagged:
            found.append(f"simulations from the posterior do not look like it ({self.check})")
        return found

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the posterior."""
        return not self.warnings

    def sample(self, n: int = 1000, *, seed: int = 0) -> Float[np.ndarray, "{n} D"]:
        """Draws from the posterior of the observation."""
        return self.posterior.sample(self.x_obs[None], n, seed=seed)[0]


def infer(
    simulator: Simulator,
    prior: Prior,
    x_obs: Float[np.ndarray, "F"],
    n: int = 10_000,
    *,
    rounds: int = 1,
    config: PosteriorConfig | None = None,
    processes: int = 1,
    folder: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Inference:
    """Infers the parameters of a simulator from an observation.

    Each later round draws from the prior cut to a box around the posterior so far (Miller et al.
    2021; Deistler et al. 2022), which needs no correction; earlier simulations in the box are
    kept. A posterior of several rounds answers for this observation only. Where the prior has no
    mass in the box, as it may be far from all simulations, no round follows.

    Args:
        simulator: From parameters (D,) and a `numpy.random.Generator` to numbers (F,). What it
            raises, or returns as NaN, is set aside with the reason.
        n: Simulations in all, shared evenly among the rounds.
        processes: That simulate; see `run_simulations`.
        folder: Keeps simulations and training, so that an interrupted call goes on and a finished
            one simulates nothing again but the first of each round, to compare.
        seed: Of the simulations, and of the training if `config` is not given.

    Returns:
        The posterior with simulations, failures and checks. Look at `warnings`: an observation
        unlike all simulations gets a posterior too, but not one to be trusted.

    Raises:
        ValueError: If x_obs is not finite or not what the simulator puts out, or all fails.
    """
    x_obs = _observation(x_obs)
    if rounds < 1 or n < rounds:
        raise ValueError(f"n is {n} and rounds {rounds}; expected at least 1 simulation in each")
    place, share = Path(folder) if folder else None, n // rounds

    def simulated(prior: Prior, n: int, k: int) -> Simulations:
        theta = prior.sample(n, seed=seed + k).numpy()
        where = place and place / f"round-{k}" / "simulations"
        return run_simulations(simulator, theta, seed=seed + k, processes=processes, folder=where)

    chosen = config or PosteriorConfig(seed=seed)

    def fitted(prior: Prior, k: int) -> Posterior:
        where = place and place / f"round-{k}" / "training"
        return Posterior.fit(pool.theta, pool.x, prior, chosen, run=where, device=device)

    pool = first = simulated(prior, n - share * (rounds - 1), 0)
    _check_width(x_obs, first)
    posterior = fitted(prior, 0)
    for k in range(1, rounds):
        box = truncated(prior, posterior, x_obs)
        if box is None:
            break  # the warnings say how far out the observation is
        pool = _joined(pool, simulated(box, share, k), box)
        posterior = fitted(box, k)
    how: dict[str, Any] = {"seed": seed, "processes": processes, "folder": place}
    check = predictive_check(simulator, posterior, x_obs, **how)
    return Inference(posterior, x_obs, pool, novelty(x_obs, first.x), check)


def truncated(
    prior: Prior, posterior: Posterior, x_obs: Float[np.ndarray, "F"]
) -> TruncatedPrior | None:
    """The prior inside a box, in u, that holds the posterior of this observation with a margin.

    None where the prior has no mass in it.
    """
    samples = torch.from_numpy(posterior.sample(x_obs[None], SAMPLES)[0])
    u = prior.normal(samples)
    low, high = u.amin(0), u.amax(0)
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    if isinstance(posterior.prior, TruncatedPrior):  # a box never grows again
        low = torch.maximum(low, posterior.prior.low)
        high = torch.minimum(high, posterior.prior.high)
    try:
        return TruncatedPrior(prior, low, high)
    except EmptyBoxError:
        return None


def predictive_check(
    simulator: Simulator,
    posterior: Posterior,
    x_obs: Float[np.ndarray, "F"],
    *,
    n: int = CHECKED,
    seed: int = 0,
    processes: int = 1,
    folder: Path | None = None,
) -> Novelty:
    """Where the observation lies among simulations from its posterior (Gelman et al. 1996).

    Infinitely far where too many of them fail. The folder keeps the simulations for each
    observation, with their parameters, which come out a little differently on another machine.
    """
    asked = torch.tensor([*x_obs, *posterior.losses, n, seed], dtype=torch.float64)
    where = folder and folder / "check" / digest({"asked": asked})
    theta = kept_theta(where) if where else None
    if theta is None:
        theta = posterior.sample(x_obs[None], n, seed=seed)[0]
    how: dict[str, Any] = {"seed": seed + 1_000_003, "processes": processes, "folder": where}
    try:
        return novelty(x_obs, run_simulations(simulator, theta, **how).x)
    except TooFewError:
        return Novelty(np.inf, 0.0)


def _observation(x_obs: np.ndarray) -> np.ndarray:
    x = np.asarray(x_obs, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            f"x_obs has shape {x.shape} and {int((~np.isfinite(x)).sum())} numbers that are not "
            "finite; expected one observation, as the simulator puts it out"
        )
    return x


def _check_width(x_obs: np.ndarray, new: Simulations) -> None:
    if new.x.shape[1] != len(x_obs):
        raise ValueError(
            f"x_obs has {len(x_obs)} numbers, the simulator's output {new.x.shape[1]}; "
            "expected the same"
        )


def _joined(pool: Simulations, new: Simulations, prior: Prior) -> Simulations:
    """All simulations inside the prior of this round."""
    theta = np.concatenate([pool.theta, new.theta])
    inside = ~prior.outside(torch.from_numpy(theta)).any(-1).numpy()
    x, failures = np.concatenate([pool.x, new.x]), pool.failures + new.failures
    return Simulations(theta[inside], x[inside], failures)
