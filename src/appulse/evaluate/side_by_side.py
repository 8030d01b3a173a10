"""Work that several processes share, each with its part of the cores."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from multiprocessing import get_context
from typing import Any

import torch

THREADS = "OMP_NUM_THREADS"


@contextmanager
def side_by_side(work: Callable[[], Any], processes: int) -> Iterator[None]:
    """While the block works, all processes but this one do `work`; after it they are gone.

    What they share is up to the work, and that this process does what they fail to do.
    """
    if processes == 1:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // processes))
    others = _start(work, processes - 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for process in others:
            process.terminate()
            process.join()


def _start(work: Callable[[], Any], count: int) -> list[Any]:
    """Processes with as many threads each as this one has now."""
    context, before = get_context("spawn"), os.environ.get(THREADS)
    others = [context.Process(target=_quietly, args=(work,), daemon=True) for _ in range(count)]
    os.environ[THREADS] = str(torch.get_num_threads())  # read when a process starts
    try:
        for process in others:
            process.start()
    finally:
        os.environ.pop(THREADS)
        os.environ.update({THREADS: before} if before is not None else {})
    return others


def _quietly(work: Callable[[], Any]) -> None:
    """Without progress bars among those of the first; Ctrl-C ends all alike."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), suppress(KeyboardInterrupt):
        work()
