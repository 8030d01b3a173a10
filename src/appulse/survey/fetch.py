"""Files of galaxies from public services into a folder, one each, resumable."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ..files import atomic_path
from .catalogue import read_columns
from .download import Downloader, ServiceError
from .positions import Positions, position_columns, positions_of
from .rejects import Rejects
from .services import Service, Target

Outcome = Literal["fetched", "there", "failed"]
_GIVE_UP = 5  # galaxies in a row for which a service fails


def read_targets(path: Path, rejects: Rejects) -> list[Target]:
    """Galaxies to fetch, from a table with columns ra, dec [deg, ICRS] and, if known, id.

    Files are named by id, with an underscore for all but letters, digits, + and -, or else by
    position. Rows without a position, or of a name that came before, are set aside.

    Raises:
        ValueError: If the table has no ra and dec.
    """

    def choose(names: Sequence[str]) -> list[str]:
        found = position_columns(names)
        if not {"ra", "dec"} <= {name.lower().removeprefix("target_") for name in found}:
            raise ValueError(f"{path} has no columns ra, dec; its columns are {', '.join(names)}")
        return found

    positions = positions_of(read_columns(path, choose))
    targets: dict[str, Target] = {}
    for row, known in enumerate(positions.known):
        with rejects.guard(path, row):
            if not known:
                raise ValueError(
                    f"position is {positions.ra[row]}, {positions.dec[row]}; expected ra in "
                    "[-180, 360] and dec in [-90, 90] degrees"
                )
            target = _target(positions, row)
            first = targets.setdefault(target.name, target)
            if first is not target:
                raise ValueError(f"file name {target.name} is that of row {first.row} already")
    return [*targets.values()]


def _target(positions: Positions, row: int) -> Target:
    ra, dec = float(positions.ra[row]), float(positions.dec[row])
    name = str(positions.ids[row]) or f"{ra:.5f}{dec:+.5f}"
    return Target(row, re.sub(r"[^A-Za-z0-9+-]", "_", name)[:150], ra, dec)


def fetch_files(
    service: Service,
    targets: Sequence[Target],
    out: Path,
    downloader: Downloader,
    rejects: Rejects,
) -> Iterator[Outcome]:
    """Fetches the file of each target that is not there yet, and says how it went.

    A file gets its name only when it is whole, can be read, and shows the target. One that is
    there and does so is kept. Rejects name the file to be and the target's row.

    Raises:
        ServiceError: If the service, or the disk, fails for five targets in a row.
    """
    down, last = 0, ""
    for target in targets:
        path = out / service.folder / f"{target.name}{service.suffix}"
        outcome: Outcome = "failed"
        with rejects.guard(path, target.row):
            if _is_there(service, path, target):
                outcome = "there"
            else:
                try:
                    _fetch(service, path, target, downloader)
                except OSError as error:  # of the service or the disk, not of this galaxy
                    down, last = down + 1, str(error)
                    raise
                except ValueError:  # the service is there, what is asked for is not
                    down = 0
                    raise
                outcome, down = "fetched", 0
        yield outcome
        if down == _GIVE_UP:
            raise ServiceError(
                f"{service.folder} failed for {down} galaxies in a row, at last with: {last}; "
                "run the same command again later, it goes on from there"
            )


def _is_there(service: Service, path: Path, target: Target) -> bool:
    if not path.exists():
        return False
    try:
        service.check(path, target)
    except (ValueError, OSError):
        return False
    return True


def _fetch(service: Service, path: Path, target: Target, downloader: Downloader) -> None:
    content = service.download(downloader, target)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        service.check(temporary, target)
