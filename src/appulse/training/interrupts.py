"""Ctrl-C without a step left half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C adds to the list, so that a step is never left half done; twice stops at once."""
    noted: list[int] = []

    def note(signum: int, _frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield noted  # only the main thread gets signals
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
