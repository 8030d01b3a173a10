"""Batches of rows, in an order that a run can be resumed in."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeVar

import numpy as np
from jaxtyping import Int

B = TypeVar("B")
READERS = 4  # threads


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """Which rows make up each step.

    The order of an epoch depends on `seed` and the epoch's number alone, so any step can be
    reached without those before it.

    Attributes:
        rows: Numbers of the rows to draw from.
        batch_size: Rows in a step; an epoch's last step has what is left, or is dropped.
        seed: Key of the order.
        epoch: The epoch to begin with.
        start: The step to begin at, counted from the begin of `epoch`; it may lie in a later one.
        epochs: How many epochs to run through, counted from `epoch`; None goes on for ever.
        shuffle: New order in each epoch, instead of that of `rows`.
        drop_last: Leave out an epoch's incomplete last step.
        rank, ranks: Which of several readers this is; each step's rows are shared among them.
        pieces: In how many batches, one after the other, this reader gets its rows of a step.
    """

    rows: Int[np.ndarray, "N"]
    batch_size: int
    seed: int = 0
    epoch: int = 0
    start: int = 0
    epochs: int | None = 1
    shuffle: bool = True
    drop_last: bool = False
    rank: int = 0
    ranks: int = 1
    pieces: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.steps_per_epoch < 1:
            raise ValueError(
                f"{len(self.rows)} rows do not fill a batch of {self.batch_size}; "
                "expected at least one step in an epoch: smaller batches, or more galaxies"
            )
        if self.batch_size % self._shares:
            raise ValueError(
                f"a batch of {self.batch_size} rows cannot be shared by {self.ranks} ranks in "
                f"{self.pieces} pieces each; expected a multiple of {self._shares}"
            )

    @property
    def _shares(self) -> int:
        return self.ranks * self.pieces

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[np.ndarray]:
        skipped, step = divmod(self.start, self.steps_per_epoch)
        epochs = count(skipped) if self.epochs is None else range(skipped, self.epochs)
        for epoch in epochs:
            order = self._order(self.epoch + epoch)
            for begin in range(step, self.steps_per_epoch):
                yield from self._share(
                    order[begin * self.batch_size : (begin + 1) * self.batch_size]
                )
            step = 0

    def _share(self, rows: Int[np.ndarray, "B"]) -> Iterator[Int[np.ndarray, "_"]]:
        """This reader's pieces of a step, equal but for an incomplete step's."""
        shares = np.array_split(rows, self._shares)
        yield from shares[self.rank * self.pieces : (self.rank + 1) * self.pieces]

    def _order(self, epoch: int) -> Int[np.ndarray, "N"]:
        if not self.shuffle:
            return self.rows
        return np.random.default_rng((self.seed, epoch)).permutation(self.rows)


def read_ahead(
    read: Callable[[Int[np.ndarray, "_"]], B], order: Iterable[Int[np.ndarray, "_"]]
) -> Iterator[B]:
    """What `read` makes of each step's rows, in their order; threads are some steps ahead.

    `read` must draw none of torch's random numbers, whose order would be anybody's guess.
    """
    rows, pool = iter(order), ThreadPoolExecutor(READERS, "read ahead")
    waiting = deque(pool.submit(read, some) for some in islice(rows, READERS))
    try:
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(pool.submit(read, some) for some in islice(rows, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
