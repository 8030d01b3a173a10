"""Progress of long work, on stderr, so that results on stdout stay clean."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def bar() -> Progress:
    """A progress bar with count, time gone and time left; tasks carry a `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def track(batches: Iterable[T], title: str, total: int, done: int = 0) -> Iterator[T]:
    """Passes on batches of rows, counting the rows."""
    with bar() as progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        for batch in batches:
            yield batch
            progress.advance(task, len(batch))  # type: ignore[arg-type]


def each(items: Sequence[T], title: str, done: int = 0) -> Iterator[T]:
    """Passes on the items that are not done yet, one by one."""
    for (item,) in track(([item] for item in items[done:]), title, len(items), done):
        yield item
