"""Folders that tasks write what they learned to."""

from pathlib import Path
from typing import Any, Literal

from ..training.run import read_config

Kind = Literal["finetune", "posterior", "generator"]


def require_own(out: Path, kind: Kind) -> None:
    """Refuses a folder that holds something else, which would be written over.

    Raises:
        ValueError: If it has the config.json of another kind of run, or a damaged one.
    """
    if not (out / "config.json").exists():
        return
    there = _kind_of(read_config(out))
    if there != kind:
        raise ValueError(f"{out} holds {there!r}, not {kind!r}; choose another folder")


def _kind_of(config: dict[str, Any]) -> str:
    """The stage of a run; posteriors have none, and are told by what is noted about them."""
    if "posterior" not in config:
        return config.get("stage", "something else")
    notes = config.get("about", {})
    if "targets" in notes:
        return "posterior"
    return "generator" if "rest" in notes else "another posterior"
