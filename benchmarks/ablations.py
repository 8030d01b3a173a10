"""What each part of the posterior's default setting is worth, on tasks of the SBI benchmark.

    python benchmarks/ablations.py ../shared/sbi [--tasks two_moons slcp] [--budget 1000]

One part at a time is changed: parameters as they are instead of where the prior is N(0, I); no
regression taken out; the flow's noise left at N(0, I); training times drawn evenly; no average of
the weights; half and twice the steps. Scored by the mean negative log density of fresh simulations,
which is what a setting may be chosen by, and by C2ST (see sbi.py), which it may not. Seeds are none
of sbi.py's.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from appulse.inference.adjustment import RegressionAdjustment
from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig, PosteriorConfig, steps_for
from appulse.inference.noise import SubsetNoise
from appulse.inference.posterior import Posterior
from appulse.inference.prior import IndependentPrior, Marginal, Normal, Prior
from record import RESULTS, write_result
from sbi import Sampler, score, simulator

FRESH = 500  # simulations that score
FLOOR = -50.0  # nats; one bad row must not be all that counts


def settings(n: int) -> dict[str, PosteriorConfig]:
    """Settings by name, for n simulations."""
    fit, steps = FitConfig(), steps_for(n, FitConfig())
    fits = {
        "no average": replace(fit, average=1 / steps),
        "half the steps": replace(fit, steps=steps // 2),
        "twice the steps": replace(fit, steps=2 * steps),
    }
    return {
        "default": PosteriorConfig(),
        "no transform": PosteriorConfig(),
        "no regression": PosteriorConfig(),
        "standard noise": PosteriorConfig(),
        "even times": PosteriorConfig(EstimatorConfig(time_power=0.0)),
        **{name: PosteriorConfig(fit=changed) for name, changed in fits.items()},
    }


@contextmanager
def without(name: str) -> Iterator[None]:
    """Leaves out what learns before the flow, or after it."""
    parts = {
        "no regression": (RegressionAdjustment, "learn"),
        "standard noise": (SubsetNoise, "set"),
    }
    with patch.object(*parts[name], lambda *_: None) if name in parts else nullcontext():
        yield


def untransformed(theta: np.ndarray) -> Prior:
    """Parameters standardised, their bounds forgotten."""
    moments = zip(theta.mean(0), theta.std(0), strict=True)
    marginals: dict[str, Marginal] = {
        f"theta{i}": Normal(float(mean), float(sd)) for i, (mean, sd) in enumerate(moments)
    }
    return IndependentPrior(marginals)


def fit_as(name: str, config: PosteriorConfig, task: str, folder: Path) -> Callable:
    """A fit with this setting, as `score` takes it; its loss is that of fresh simulations."""

    def fit(theta: np.ndarray, x: np.ndarray, before: Prior, seed: int) -> tuple[Sampler, Any]:
        used = untransformed(theta) if name == "no transform" else before
        with without(name):
            chosen = replace(config, seed=seed)
            posterior = Posterior.fit(theta, x, used, chosen, device="cpu")
        fresh = before.sample(FRESH, 1000 + seed).numpy()
        seen = simulator(task, folder)(fresh, np.random.default_rng(1000 + seed))
        loss = -np.maximum(posterior.log_prob(fresh, seen), FLOOR).mean()
        return lambda x_obs, n: posterior.sample(x_obs, n, seed=seed)[0], loss

    return fit


def table(runs: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds, by task and setting."""
    found: dict[str, Any] = {}
    for key, run in runs.items():
        task, name, _ = key.split(", ")
        found.setdefault(task, {}).setdefault(name, []).append(run)
    return {
        task: {
            name: {
                "C2ST": round(float(np.mean([run["c2st"] for run in seeds])), 4),
                "negative log density": round(float(np.mean([r["validation"] for r in seeds])), 4),
                "seeds": len(seeds),
            }
            for name, seeds in by.items()
        }
        for task, by in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the reference posteriors")
    parser.add_argument("--tasks", nargs="+", default=["two_moons", "slcp"])
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "ablations.json"
    runs = json.loads(file.read_text())["results"]["runs"] if file.exists() else {}
    for seed, task, (name, config) in product(
        asked.seeds, asked.tasks, settings(asked.budget).items()
    ):
        key = f"{task} {asked.budget}, {name}, {seed}"
        if key not in runs:
            runs[key] = score(
                fit_as(name, config, task, asked.folder), task, asked.budget, seed, asked.folder
            )
            print(key, runs[key], flush=True)
            write_result("ablations", {"table": table(runs), "runs": runs})


if __name__ == "__main__":
    main()
