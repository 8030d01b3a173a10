"""Files on disk: which ones a caller means, and writing them whole or not at all."""

import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Paths = str | Path | Iterable[str | Path]


def expand_paths(paths: Paths) -> list[Path]:
    """The files meant by a name, a wildcard pattern (`*`, `?`, `[]`, `**`) or several of them.

    Order is the caller's; within a pattern it is alphabetical. A name without wildcards is
    returned as it is, whether or not it exists: whoever opens it can say more.

    Raises:
        FileNotFoundError: If a pattern matches no file, or `paths` is empty.
    """
    names = [paths] if isinstance(paths, str | Path) else list(paths)
    if not names:
        raise FileNotFoundError("no paths given; expected at least one file or pattern")
    return [path for name in names for path in _expand(str(name))]


def apart_from(out: Path, files: Paths) -> list[Path]:
    """The files, none of which may be written over.

    Raises:
        ValueError: If `out` is one of them.
    """
    paths = expand_paths(files)
    if out.resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"{out} is one of the files to read; choose another name for the result")
    return paths


def _expand(name: str) -> list[Path]:
    name = os.path.expanduser(name)
    if not glob.has_magic(name) or os.path.exists(name):
        return [Path(name)]
    matches = sorted(match for match in glob.glob(name, recursive=True) if os.path.isfile(match))
    if not matches:
        raise FileNotFoundError(f"no file matches {name!r}, seen from {os.getcwd()}")
    return [Path(match) for match in matches]


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary name to write to; it becomes `target` when the block ends well.

    A reader, or a process killed at any moment, finds the old file or the whole new one. On an
    exception the temporary file is removed and `target` stays as it was. The suffix is kept, for
    writers that choose a format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
        _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def drop_leftovers(target: Path) -> None:
    """Removes what kills in `atomic_path` left beside `target`."""
    token = "[0-9a-f]" * 8
    for left in target.parent.glob(f".{glob.escape(target.stem)}.{token}{target.suffix}"):
        left.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def folder_beside(out: Path) -> Iterator[Path]:
    """A folder to work in, on the disk of `out`, gone afterwards; what a killed job left goes."""
    folder = _parts(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(out: Path, settings: Mapping[str, Any]) -> Path:
    """Folder beside `out` of what is done of this work; what another work left there goes.

    Args:
        out: What the work makes in the end.
        settings: All that the work depends on, as JSON has it.
    """
    folder = _parts(out)
    note = folder / "settings.json"
    if not (note.exists() and json.loads(note.read_text()) == settings):
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_path(note) as temporary:
            temporary.write_text(json.dumps(settings))
    return folder


def _parts(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def _flush(path: Path) -> None:
    """Waits until `path` is on the disk: a rename may otherwise outlive what it renames."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
