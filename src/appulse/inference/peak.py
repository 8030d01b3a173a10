"""The highest point of a density, found without its gradient.

Shapes: B observations, S samples, D parameters.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS, CANDIDATES, ELITE, SHRINK = 12, 24, 6, 0.7


def find_peak(
    log_density: Callable[[Tensor], Tensor],
    samples: Float[Tensor, "B S D"],
    rng: torch.Generator,
) -> Float[Tensor, "B D"]:
    """Where `log_density` (B, S, D) → (B, S) is highest, starting from samples of it.

    An evolution strategy: candidates around the best point so far, as wide as the samples and
    narrower each round; the mean of the best few is tried too, which follows a slope.
    """
    best = _best(samples, log_density(samples))
    spread = (samples.quantile(0.84, dim=1) - samples.quantile(0.16, dim=1)) / 2
    centre = best
    for k in range(ROUNDS):
        shape = (len(samples), CANDIDATES, samples.shape[2])
        step = torch.randn(shape, generator=rng, dtype=samples.dtype)
        width = 0.5 * SHRINK**k * spread
        tried = torch.cat(
            [best[:, None], centre[:, None], centre[:, None] + width[:, None] * step], 1
        )
        values = log_density(tried)
        best = _best(tried, values)
        elite = values.topk(ELITE, dim=1).indices[..., None].expand(-1, -1, samples.shape[2])
        centre = tried.gather(1, elite).mean(1)
    return best


def _best(points: Tensor, values: Tensor) -> Tensor:
    rows = torch.arange(len(points))
    return points[rows, values.argmax(1)]
