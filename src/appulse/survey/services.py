"""What is asked of a public service that has galaxies, and of the files it gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from astropy.coordinates import angular_separation

from .download import Downloader
from .images import Images
from .rejects import Rejects
from .spectra import Spectra

Part = TypeVar("Part", Images, Spectra)


class Target(NamedTuple):
    """One galaxy to fetch: its row in the caller's table, a name for its files, its place."""

    row: int
    name: str
    ra: float
    dec: float

    def arcsec_from(self, ra: Any, dec: Any) -> Any:
        """Distances from positions in degrees."""
        here, there = np.radians((self.ra, self.dec)), np.radians((ra, dec))
        return np.degrees(angular_separation(*here, *there)) * 3600


@runtime_checkable
class Service(Protocol):
    """Where files of galaxies come from."""

    @property
    def folder(self) -> str:
        """Name of the folder that its files go to."""

    @property
    def suffix(self) -> str:
        """How their names end."""

    def download(self, downloader: Downloader, target: Target) -> bytes:
        """The content of the target's file.

        Raises:
            ServiceError: If the service fails every time.
            ValueError: If it has no such thing, or answers something else.
        """

    def check(self, path: Path, target: Target) -> None:
        """Raises ValueError unless the file can be read and is of the target."""


def only(parts: Sequence[Part], rejects: Rejects) -> Part:
    """The only part that was read, or its reason not to be as a ValueError."""
    if len(parts) != 1:
        raise ValueError(next((r.reason for r in rejects), f"holds {len(parts)} rows, not one"))
    return parts[0]


def require_near(target: Target, part: Images | Spectra, radius: float) -> None:
    """Raises ValueError if the one row is farther than `radius` arcsec from the target."""
    away = float(target.arcsec_from(part.ra[0], part.dec[0]))
    if not away <= radius:
        raise ValueError(f"its position is {away:.2f} arcsec from the one asked for")
