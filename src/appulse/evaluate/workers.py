"""Processes that share work, each with its part of the cores."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from multiprocessing import get_context
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ..processes import end_with_parent


@contextmanager
def workers(work: Callable[[], Any], processes: int) -> Iterator[None]:
    """While the block works, all processes but this one do `work`; after it they are gone.

    What they share is up to the work, and that this process does what they fail to do.
    """
    context, threads = get_context("spawn"), max(1, torch.get_num_threads() // processes)
    others = [
        context.Process(target=_work, args=(work, threads), daemon=True)
        for _ in range(processes - 1)
    ]
    for process in others:
        process.start()
    try:
        with _limited(threads):
            yield
    finally:
        for process in others:
            process.terminate()
            process.join()


def _work(work: Callable[[], Any], threads: int) -> None:
    """Without progress bars among those of the first; what ends that one ends all."""
    end_with_parent()
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
        suppress(KeyboardInterrupt),
        _limited(threads),
    ):
        work()


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """So many for torch, and for the products and loops of other libraries."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
