"""Posteriors of the SBI benchmark (Lueckmann et al. 2021), against `sbi`'s FMPE and NPE.

    python benchmarks/sbi.py ../shared/sbi --tasks slcp two_moons --budgets 1000 10000 --seeds 0 1 2

C2ST as in sbibm between 2,000 samples and the reference posterior of observations 1 and 2: .5 is
perfect, 1 is wrong. One setting, the package's default, for all tasks and budgets. CPU seconds are
of this process on one thread. `sbi` (0.27, `pip install sbi`; left out where it is not installed)
would stop before it has used as many of them as ours: here it trains for as long as ours did on the
same simulations, and keeps the weights of its best validation, as it does when it stops by itself.

What the result file holds is not run again, unless the setting of its method is another one now;
a rival's run also counts if ours, run anew, takes up to a tenth longer.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from appulse.digest import digest_of
from appulse.inference.correlated import CorrelatedPrior
from appulse.inference.fitting import PosteriorConfig
from appulse.inference.posterior import Posterior
from appulse.inference.prior import IndependentPrior, Prior, Uniform
from appulse.provenance import provenance
from record import RESULTS, write_result

SAMPLES, SCORED = 10_000, 2_000
NEVER = 2**31 - 1
GOALS = {  # mean C2ST at 10,000 simulations
    "two_moons": 0.53,
    "slcp": 0.78,
    "gaussian_mixture": 0.58,
    "gaussian_linear": 0.54,
    "gaussian_linear_uniform": 0.56,
    "bernoulli_glm": 0.62,
}
Sampler = Callable[[np.ndarray, int], np.ndarray]


def two_moons(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, radius = (
        rng.uniform(-np.pi / 2, np.pi / 2, len(theta)),
        rng.normal(0.1, 0.01, len(theta)),
    )
    moon = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)
    shift = np.stack([-np.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1)
    return moon + shift / np.sqrt(2)


def gaussian_mixture(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sd = np.where(rng.random(len(theta)) < 0.5, 1.0, 0.1)
    return theta + sd[:, None] * rng.normal(size=theta.shape)


def gaussian_linear(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return theta + np.sqrt(0.1) * rng.normal(size=theta.shape)


def slcp(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sd, rho = theta[:, None, 2:4] ** 2, np.tanh(theta[:, None, 4])
    first, second = rng.normal(size=(2, len(theta), 4))
    pair = np.stack([first, rho * first + np.sqrt(1 - rho**2) * second], -1)
    return (theta[:, None, :2] + sd * pair).reshape(len(theta), 8)


def bernoulli_glm(design: np.ndarray, stimulus: np.ndarray) -> Callable:
    def simulate(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        fires = rng.random((len(theta), 100)) < 1 / (1 + np.exp(-theta @ design.T))
        padded = np.pad(fires.astype(float), ((0, 0), (8, 8)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 100, axis=1)
        return np.hstack([fires.sum(1, keepdims=True), (windows @ stimulus)[:, -9:]])

    return simulate


def simulator(task: str, folder: Path) -> Callable:
    if task == "bernoulli_glm":
        with np.load(folder / "bernoulli_glm_design.npz") as file:
            return bernoulli_glm(file["design"], file["stimulus"])
    same = {"gaussian_linear_uniform": gaussian_linear}
    plain = (two_moons, gaussian_mixture, gaussian_linear, slcp)
    return (same | {function.__name__: function for function in plain})[task]


def prior(task: dict[str, Any]) -> Prior:
    dim, kind = task["dim_theta"], task["prior"]
    if kind["kind"] == "uniform_box":
        box = Uniform(kind["low"], kind["high"])
        return IndependentPrior({f"theta{i}": box for i in range(dim)})
    if "variance" in kind:
        covariance = kind["variance"] * np.eye(dim)
    else:
        covariance = np.linalg.inv(kind["precision_matrix"])
    return CorrelatedPrior([0.0] * dim, ((covariance + covariance.T) / 2).tolist())


def c2st(reference: np.ndarray, samples: np.ndarray) -> float:
    """Accuracy of a classifier; settings of sbibm."""
    centre, spread = reference.mean(0), reference.std(0)
    both = (np.concatenate([reference, samples]) - centre) / spread
    labels = np.repeat([0, 1], [len(reference), len(samples)])
    width = 10 * both.shape[1]
    network = MLPClassifier((width, width), max_iter=10_000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    return float(cross_val_score(network, both, labels, cv=folds, scoring="accuracy").mean())


def fit_appulse(theta: np.ndarray, x: np.ndarray, prior: Prior, seed: int) -> tuple[Sampler, Any]:
    posterior = Posterior.fit(theta, x, prior, PosteriorConfig(seed=seed), device="cpu")
    return lambda x_obs, n: posterior.sample(x_obs, n, seed=seed)[0], np.mean(posterior.losses)


def fit_sbi(method: str, seconds: float) -> Callable:
    """A fit that takes this much CPU time."""

    def fit(theta: np.ndarray, x: np.ndarray, prior: Prior, seed: int) -> tuple[Sampler, Any]:
        import sbi.inference

        torch.manual_seed(seed)
        trainer = getattr(sbi.inference, method)(_sbi_prior(prior), show_progress_bars=False)
        rows = (torch.as_tensor(array, dtype=torch.float32) for array in (theta, x))
        trainer.append_simulations(*rows)
        _stop_by_time(trainer, seconds)
        trainer.train()
        posterior = trainer.build_posterior()

        def sample(x_obs: np.ndarray, n: int) -> np.ndarray:
            at = torch.as_tensor(x_obs, dtype=torch.float32)
            return posterior.sample((n,), x=at, show_progress_bars=False).numpy()

        return sample, trainer.summary["best_validation_loss"][-1]

    return fit


def _stop_by_time(trainer: Any, seconds: float) -> None:
    """Training ends by CPU time instead of patience, with the best weights as otherwise."""
    end, note_best = time.process_time() + seconds, trainer._converged

    def over(epoch: int, patience: int) -> bool:
        note_best(epoch, NEVER)
        if time.process_time() < end:
            return False
        trainer._neural_net.load_state_dict(trainer._best_model_state_dict)
        return True

    trainer._converged = over


def _sbi_prior(prior: Prior) -> Any:
    if isinstance(prior, CorrelatedPrior):
        return torch.distributions.MultivariateNormal(prior.mean.float(), prior.covariance.float())
    ends = np.array([prior.support(i) for i in range(len(prior.names))], dtype=np.float32)
    from sbi.utils import BoxUniform

    return BoxUniform(torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1]))


def setting(method: str, runs: dict[str, Any], seed: int) -> dict[str, Any]:
    """What a method is set to; rivals to the CPU time of ours."""
    if method == "appulse":
        return {"config": digest_of(asdict(PosteriorConfig()), 8)}
    if str(seed) not in runs.get("appulse", {}):
        raise SystemExit(f"{method} trains for as long as appulse: run appulse first, seed {seed}")
    return {"sbi": version("sbi"), "CPU-s": runs["appulse"][str(seed)]["train CPU-s"]}


def is_done(run: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Whether a run had this setting; rivals may have had up to a tenth less time, or more."""
    before = run["setting"] if run else {}
    if "CPU-s" not in now or "CPU-s" not in before:
        return bool(before == now)
    return before["sbi"] == now["sbi"] and before["CPU-s"] >= 0.9 * now["CPU-s"]


def score(fit: Callable, task: str, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Fits on n simulations of one seed and scores both observations."""
    known = json.loads((folder / "tasks.json").read_text())[task]
    before = prior(known)
    theta = before.sample(n, seed).numpy()
    x = simulator(task, folder)(theta, np.random.default_rng(seed))
    start = time.process_time()
    with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):
        sample, loss = fit(theta, x, before, seed)
    trained = time.process_time()
    with np.load(folder / f"{task}.npz") as file:
        draws = [sample(file[f"obs_{i}"], SAMPLES) for i in (1, 2)]
        sampled = time.process_time()
        scores = [c2st(file[f"ref_{i}"], d[:SCORED]) for i, d in zip((1, 2), draws, strict=True)]
    return {
        "c2st": [round(value, 4) for value in scores],
        "train CPU-s": round(trained - start, 1),
        "10,000 samples CPU-s": round((sampled - trained) / 2, 2),
        "validation": round(float(loss), 4),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the reference posteriors")
    parser.add_argument("--tasks", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--budgets", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["appulse", "FMPE", "NPE"])
    return parser.parse_args()


def main() -> None:
    torch.set_num_threads(1)
    sys.path.remove(str(Path(__file__).parent))  # this file is named as what it compares with
    asked, file = arguments(), RESULTS / "sbi.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    there = {"appulse"} | ({"FMPE", "NPE"} if importlib.util.find_spec("sbi") else set())
    names = [name for name in asked.methods if name in there]
    for seed, n, task, method in product(asked.seeds, asked.budgets, asked.tasks, names):
        runs = results.setdefault(f"{task}, {n}", {})
        now = setting(method, runs, seed)
        if is_done(runs.get(method, {}).get(str(seed)), now):
            continue
        fit = fit_appulse if method == "appulse" else fit_sbi(method, now["CPU-s"])
        about = {"setting": now, "processor": provenance()["processor"]}
        found = score(fit, task, n, seed, asked.folder) | about
        runs.setdefault(method, {})[str(seed)] = found
        print(task, n, method, seed, found, flush=True)
        write_result("sbi", results)


if __name__ == "__main__":
    main()
