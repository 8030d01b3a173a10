"""Numbers of things, of which there must be one or more."""

from typing import Any


def at_least_one(count: int, name: str) -> int:
    """The count.

    Raises:
        ValueError: If it is less than one.
    """
    if count < 1:
        raise ValueError(f"{name} is {count}; expected 1 or more")
    return count


def require_counts(config: Any, *names: str) -> None:
    """Raises ValueError, naming it, if one of these attributes is less than one."""
    for name in names:
        at_least_one(getattr(config, name), name)
