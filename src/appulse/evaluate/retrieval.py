"""Retrieval across modalities: where the true partner ranks, and what the other neighbours are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics.pairwise import cosine_similarity

from ..metrics import bootstrap, neighbour_mean, partner_ranks, ranks_in_pools
from ..survey.survey import PROPERTIES
from .protocol import Predictions
from .results import DRAWS, Columns, Modality, Result

POOLS, POOL_SIZE = 3, 1_000
SMALLER = (30, 100, 300)  # pools whose median rank is told too
NEIGHBOURS = 10  # whose physics is compared with the query's
DIRECTIONS: tuple[Modality, ...] = ("image → spectrum", "spectrum → image")


@dataclass(frozen=True, eq=False)
class Matches:
    """Vectors of the test galaxies that one method compares across modalities; rows are pairs."""

    method: str
    image: Float[np.ndarray, "B D"]
    spectrum: Float[np.ndarray, "B D"]
    n_train: int
    baseline: bool = False
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray] = cosine_similarity
    seed: int = 0


def rank(matches: Matches, labels: Columns) -> list[Predictions]:
    """What a search in each direction finds, query by query: `queries` says whose.

    Values are the rank of the true partner and, for each property that `labels` hold of the test
    galaxies, the mean of the other neighbours'.
    """
    pools = pool_rows(len(matches.image))
    similarity = [matches.similarity(matches.image[p], matches.spectrum[p]) for p in pools]
    return [
        Predictions(
            matches.method,
            direction,
            _found(found, pools, labels),
            matches.n_train,
            matches.baseline,
            seed=matches.seed,
        )
        for direction, found in zip(
            DIRECTIONS, (similarity, [s.T for s in similarity]), strict=True
        )
    ]


def _found(
    similarity: list[Float[np.ndarray, "N N"]],
    pools: list[Int[np.ndarray, "N"]],
    labels: Columns,
) -> dict[str, np.ndarray]:
    found = {"partner": np.concatenate([partner_ranks(s) for s in similarity])}
    for name in (n for n in PROPERTIES if n in labels):
        means = [
            neighbour_mean(s, labels[name][rows], NEIGHBOURS)
            for s, rows in zip(similarity, pools, strict=True)
        ]
        found[name] = np.concatenate(means)
    return found


def queries(labels: Columns, galaxies: int) -> dict[str, np.ndarray]:
    """Labels of those who ask, pool after pool: the truth of what `rank` says of neighbours."""
    rows = np.concatenate(pool_rows(galaxies))
    return {name: values[rows] for name, values in labels.items()}


def ranks_by_pool(trained: list[Predictions], galaxies: int, *, seed: int = 0) -> list[Result]:
    """Median rank to expect in smaller pools.

    Args:
        trained: One method's search with each of its seeds.
        galaxies: In the test part.
        seed: Of the bootstrap.
    """
    size = len(pool_rows(galaxies)[0])
    ranks = np.stack([p.values["partner"] for p in trained], axis=1)
    first, results = trained[0], []
    for smaller in (n for n in SMALLER if n < size):
        among = ranks_in_pools(ranks.ravel(), size, smaller).reshape(ranks.shape)
        estimate = bootstrap(_mean_median, among, n=DRAWS, seed=seed)
        results.append(
            Result(
                *(first.method, first.modality, "partner", f"median rank of {smaller}", *estimate),
                n_train=first.n_train,
                n_test=len(ranks),
                baseline=first.baseline,
                seeds=len(trained),
                spread=float(np.median(among, axis=0).std()),
            )
        )
    return results


def _mean_median(ranks: Float[np.ndarray, "B S"]) -> float:
    return float(np.median(ranks, axis=0).mean())


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
