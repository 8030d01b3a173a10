"""Learning rates, weight decays, momenta and temperatures over the steps of a run."""

import math
from dataclasses import dataclass


def warmup_cosine(step: int, steps: int, warmup: int, floor: float = 0.0) -> float:
    """Factor on a learning rate: linear from 0 up to 1 at `warmup`, then half a cosine to `floor`.

    AstroCLIP's schedule; from `steps` on it stays at `floor`.
    """
    if step < warmup:
        return step / warmup
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class CosineSchedule:
    """DINOv2's: a line from `start` to `base` over `warmup` steps, half a cosine from there to
    `final` at `steps`, and `final` ever after.
    """

    base: float
    final: float
    steps: int
    warmup: int = 0
    start: float = 0.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0; the last step of the warm-up is at `base`."""
        if step < self.warmup:
            return self.start + (self.base - self.start) * step / max(self.warmup - 1, 1)
        if step >= self.steps:
            return self.final
        done = (step - self.warmup) / (self.steps - self.warmup)
        return self.final + (self.base - self.final) * 0.5 * (1 + math.cos(math.pi * done))
