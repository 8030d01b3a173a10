"""One process at a time: locks that a killed process does not leave behind.

A disk that knows no locks grants all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def hold(folder: Path) -> FileLock:
    """Keeps other processes from working in a folder, for as long as the lock is referred to.

    This process may hold it any number of times.

    Raises:
        ValueError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", thread_local=False, is_singleton=True, fallback_to_soft=False)
    if not _acquired(lock, wait=False):
        raise ValueError(
            f"another process is at work in {folder}; wait until it ends, or choose another folder"
        )
    return lock


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[bool]:
    """Whether it is this process that may make a file in the block; look first if it is there now.

    Args:
        path: The file.
        wait: Until another process that has claimed it is done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"), fallback_to_soft=False)
    if not _acquired(lock, wait):
        yield False
        return
    try:
        yield True
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while held, so that nobody else holds it
        lock.release()


def _acquired(lock: FileLock, wait: bool) -> bool:
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return False
    except OSError:  # no locks here; whatever else is wrong shows when something is written
        return True
    return True
