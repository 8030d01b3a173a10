"""From a simulator and one observation to a posterior, and whether to believe it.

    python examples/infer.py

A pendulum is timed ten times by a hand that is late by some fixed delay: what are its length and
the delay? The simulator knows physics, nobody writes down a likelihood.
"""

import numpy as np

import appulse
from appulse.inference.prior import IndependentPrior, LogNormal, Uniform


def pendulum(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Times of ten swings in s, for a length in m and a delay in s."""
    length, delay = theta
    period = 2 * np.pi * np.sqrt(length / 9.81)
    return period * np.arange(1, 11) + delay + 0.05 * rng.normal(size=10)


if __name__ == "__main__":
    prior = IndependentPrior({"length": LogNormal(0.0, 0.5), "delay": Uniform(0.0, 0.5)})
    seen = pendulum(np.array([0.8, 0.2]), np.random.default_rng(1))
    found = appulse.infer(pendulum, prior, seen, n=2000)
    ranges = found.posterior.intervals(seen[None])
    for i, name in enumerate(prior.names):
        low, high = ranges.low[0, 0, i], ranges.high[0, 0, i]
        print(f"{name}: {ranges.median[0, i]:.3f}, 68 % between {low:.3f} and {high:.3f}")
    print("reasons not to believe it:", found.warnings or "none found")
    odd = appulse.infer(pendulum, prior, np.linspace(30.0, 3.0, 10), n=2000)
    print("a clock that runs backwards:", *odd.warnings)
