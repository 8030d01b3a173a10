"""Retrieval across modalities: where the true partner ranks, and what the other neighbours are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics.pairwise import cosine_similarity

from ..metrics import Estimate, bootstrap, partner_ranks, r2, ranks_in_pools, recall_at_k
from ..survey.survey import PROPERTIES
from .results import DRAWS, Columns, Modality, Result, known

POOLS, POOL_SIZE = 3, 1_000
SMALLER = (30, 100, 300)  # pools whose median rank is told too
NEIGHBOURS = 10  # whose physics is compared with the query's
RANK_SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "top-1": partial(recall_at_k, k=1),
    "top-5": partial(recall_at_k, k=5),
    "top-10": partial(recall_at_k, k=10),
    "median rank": lambda ranks: float(np.median(ranks)),
}


@dataclass(frozen=True, eq=False)
class Matches:
    """Vectors of the test galaxies that one method compares across modalities; rows are pairs."""

    method: str
    image: Float[np.ndarray, "B D"]
    spectrum: Float[np.ndarray, "B D"]
    n_train: int
    baseline: bool = False
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray] = cosine_similarity


def score_matches(matches: Matches, truth: Columns, *, seed: int = 0) -> list[Result]:
    """Rank of the true partner, and likeness of the other neighbours, in each direction."""
    pools = pool_rows(len(matches.image), seed)
    similarity = [matches.similarity(matches.image[p], matches.spectrum[p]) for p in pools]
    forward = _score_direction(matches, "image → spectrum", similarity, pools, truth, seed)
    transposed = [s.T for s in similarity]
    return forward + _score_direction(matches, "spectrum → image", transposed, pools, truth, seed)


def _score_direction(
    matches: Matches,
    direction: Modality,
    similarity: list[Float[np.ndarray, "N N"]],
    pools: list[Int[np.ndarray, "N"]],
    truth: Columns,
    seed: int,
) -> list[Result]:
    ranks = np.concatenate([partner_ranks(s) for s in similarity])
    estimates = {
        ("partner", name): bootstrap(score, ranks, n=DRAWS, seed=seed)
        for name, score in RANK_SCORES.items()
    } | _likeness(similarity, pools, truth, seed)
    for size in (n for n in SMALLER if n < len(pools[0])):
        among = ranks_in_pools(ranks, len(pools[0]), size)
        median = bootstrap(lambda r: float(np.median(r)), among, n=DRAWS, seed=seed)
        estimates["partner", f"median rank of {size}"] = median
    return [
        Result(
            matches.method,
            direction,
            target,
            metric,
            *estimate,
            n_train=matches.n_train,
            n_test=len(ranks),
            baseline=matches.baseline,
        )
        for (target, metric), estimate in estimates.items()
    ]


def _likeness(
    similarity: list[Float[np.ndarray, "N N"]],
    pools: list[Int[np.ndarray, "N"]],
    truth: Columns,
    seed: int,
) -> dict[tuple[str, str], Estimate]:
    """R² of the neighbours' mean against the query's own value, for each property known."""
    estimates = {}
    for name in (n for n in PROPERTIES if n in truth):
        own = np.concatenate([truth[name][rows] for rows in pools])
        mean = np.concatenate(
            [
                neighbour_mean(s, truth[name][rows])
                for s, rows in zip(similarity, pools, strict=True)
            ]
        )
        both = known(mean) & known(own)
        if both.any():
            estimate = bootstrap(r2, mean[both], own[both], n=DRAWS, seed=seed)
            estimates[name, "neighbours' R²"] = estimate
    return estimates


def pool_rows(n: int, seed: int = 0) -> list[Int[np.ndarray, "N"]]:
    """Three disjoint random pools of min(1000, n // 3) rows each.

    Raises:
        ValueError: If a pool would hold no more galaxies than the scores count.
    """
    size = min(POOL_SIZE, n // POOLS)
    if size <= NEIGHBOURS:
        raise ValueError(
            f"{n} test galaxies make pools of {size}; top-{NEIGHBOURS} needs more than "
            f"{POOLS * NEIGHBOURS + POOLS - 1} in all: simulate or read more"
        )
    return np.split(np.random.default_rng(seed).permutation(n)[: POOLS * size], POOLS)


def neighbour_mean(
    similarity: Float[np.ndarray, "N N"], values: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Mean value of each row's nearest columns, its own partner left out.

    Where a partner is missed, this says whether the neighbours are at least alike.
    """
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = np.argpartition(-others, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    return values[nearest].mean(axis=1)
