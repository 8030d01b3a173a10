"""Processes side by side: pools, and what a process owes to the one that started it."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread


def pool(processes: int) -> ProcessPoolExecutor:
    """Fresh processes that leave Ctrl-C to this one, and end when it is gone."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _belong_to_parent)


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone, be it by `kill -9`.

    Without, a pool's would wait for ever, and others work on for hours.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing; it has no parent")
    Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _belong_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # as if killed: the main thread may be deep in a library
