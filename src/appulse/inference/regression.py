"""Linear fits of one parameter, judged by what they would leave of rows they had not seen.

Shapes: B rows, F features.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .mixture import LOG_ROOT, Mixture, fit_mixture

RIDGE, RIDGE_PER_FEATURE = 1e-4, 0.1
ROUNDS = 30  # of reweighting
AS_THEY_ARE = Mixture(*(torch.tensor(value).double() for value in (1.0, 1.0, 0.0)))
HINT = 0.1  # nats that outliers must be worth in the usual fit, before one for them is tried
WORTH = 1.0  # nats that a fit for outliers must gain
CAUCHY = 2.385  # residuals this many sd out count half (95 % efficiency, Holland & Welsch 1977)
ROWS_PER_FEATURE = 4  # below, choosing among features fits noise
LEAST_FREE = 1e-3  # of a row that the others leave open; below, they say nothing of it


class LinearFit(NamedTuple):
    """One parameter as constant + features · slope, and what that leaves."""

    constant: float
    slope: Float[Tensor, "F"]
    rest: Float[Tensor, "B"]  # of each row, by the fit to all the others at equal penalties
    mixture: Mixture  # of the rest; without a share of outliers it stays as it is
    score: float  # mean log density of the rest, nats

    def left(self, x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """What the fit leaves of any rows."""
        return y - self.constant - x @ self.slope


def judged(
    constant: float, slope: Tensor, rest: Float[Tensor, "B"], mixture: Mixture = AS_THEY_ARE
) -> LinearFit:
    """A fit with its score."""
    if mixture.share > 0:
        score = float(mixture.log_density(rest).mean())
    else:
        score = -0.5 * math.log(float(rest.square().mean().clamp(min=1e-18))) - 0.5 - LOG_ROOT
    return LinearFit(constant, slope, rest, mixture, score)


def best_fit(
    x: Float[Tensor, "B F"],
    y: Float[Tensor, "B"],
    used: Bool[Tensor, "F"],
    others: Sequence[LinearFit],
    outliers: bool,
) -> LinearFit:
    """The fit of the best score: to the features in use, to none, or one of the others.

    Args:
        outliers: Whether to leave features of no use out, and to try a fit for outliers; not done
            where rows are too few to tell.
    """
    flat = judged(float(y.mean()), torch.zeros_like(x[0]), (y - y.mean()) * len(y) / (len(y) - 1))
    seen, choosy = x[:, used], outliers and len(y) >= ROWS_PER_FEATURE * int(used.sum())
    own = _relevant_fit(seen, y, robust=False) if choosy else _ridge_fit(seen, y)
    best = max(flat, *others, _spread(own, used), key=lambda fit: fit.score)
    mixed = best.mixture.share > 0  # one of the others is for outliers already
    if not choosy or not (mixed or _hint(best.rest) > best.score + HINT):
        return best
    robust = _relevant_fit(seen, y, robust=True)
    return _spread(robust, used) if robust.score > best.score + (0 if mixed else WORTH) else best


def _hint(rest: Float[Tensor, "B"]) -> float:
    """Mean log density of residuals as a mixture."""
    return float(fit_mixture(rest).log_density(rest).mean())


def _spread(fit: LinearFit, used: Bool[Tensor, "F"]) -> LinearFit:
    """The same with a slope for all features."""
    slope = torch.zeros(len(used), dtype=fit.slope.dtype)
    slope[used] = fit.slope
    return fit._replace(slope=slope)


def _ridge_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"]) -> LinearFit:
    """One penalty for all slopes."""
    moments, penalty = _moments(x, y, torch.ones_like(y)), _even_penalty(x)
    line = moments.ridge(penalty)
    return judged(line.constant, line.slope, moments.unseen(x, y, line))


def _even_penalty(x: Float[Tensor, "B F"]) -> Float[Tensor, "F"]:
    used = int((x != x[0]).any(0).sum())
    return torch.full_like(x[0], RIDGE + RIDGE_PER_FEATURE * used / len(x))


def _relevant_fit(x: Float[Tensor, "B F"], y: Float[Tensor, "B"], robust: bool) -> LinearFit:
    """Each slope has a penalty of its own, by automatic relevance determination (MacKay 1992).

    So features of no use do not fit the noise of the few that say it all. The robust fit is by
    iteratively reweighted least squares, which outliers hardly move.
    """
    moments, penalty = _moments(x, y, torch.ones_like(y)), torch.full_like(x[0], RIDGE)
    line = moments.ridge(_even_penalty(x))
    for _ in range(ROUNDS):
        rest = y - line.constant - x @ line.slope
        variance = rest.square().mean().clamp(min=1e-18)
        if robust:
            variance = (rest.abs().median().clamp(min=1e-9) / 0.6745) ** 2
            moments = _moments(x, y, 1 / (1 + rest**2 / (CAUCHY**2 * variance)))
        line = moments.ridge(penalty)
        noise = variance / (len(y) - line.free.sum()).clamp(min=1)
        penalty = (noise * line.free / line.slope.square().clamp(min=1e-30)).clamp(1e-12, 1e9)
    unseen = moments.unseen(x, y, line)
    mixture = fit_mixture(unseen) if robust else AS_THEY_ARE
    return judged(line.constant, line.slope, unseen, mixture)


class _Line(NamedTuple):
    """A ridge regression; `free` is how freely the data set each slope."""

    constant: float
    slope: Float[Tensor, "F"]
    free: Float[Tensor, "F"]
    inverse: Float[Tensor, "F F"]  # of the penalised covariance


class _Moments(NamedTuple):
    """Weighted means and covariances of features and of one parameter."""

    share: Float[Tensor, "B"]
    centre: Float[Tensor, ""]
    middle: Float[Tensor, "F"]
    spread: Float[Tensor, "F F"]
    shared: Float[Tensor, "F"]

    def ridge(self, penalty: Float[Tensor, "F"]) -> _Line:
        """Ridge regression with a penalty for each slope."""
        inverse = torch.linalg.inv(self.spread + penalty.diag())
        slope = inverse @ self.shared
        free = (1 - penalty * inverse.diagonal()).clamp(0, 1)
        return _Line(float(self.centre - slope @ self.middle), slope, free, inverse)

    def unseen(
        self, x: Float[Tensor, "B F"], y: Float[Tensor, "B"], line: _Line
    ) -> Float[Tensor, "B"]:
        """What the same fit to all other rows would leave of each row, by its leverage."""
        away = x - self.middle
        open_ = 1 - self.share * (1 + ((away @ line.inverse) * away).sum(1))
        rest = (y - line.constant - x @ line.slope) / open_.clamp(min=LEAST_FREE)
        return torch.where(open_ > LEAST_FREE, rest, y - self.centre)


def _moments(
    x: Float[Tensor, "B F"], y: Float[Tensor, "B"], weight: Float[Tensor, "B"]
) -> _Moments:
    share = weight / weight.sum()
    centre, middle = share @ y, share @ x
    away, x = y - centre, x - middle
    return _Moments(share, centre, middle, x.T @ (share[:, None] * x), x.T @ (share * away))
