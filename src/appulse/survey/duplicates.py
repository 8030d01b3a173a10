"""Galaxies that a survey lists twice."""

import hashlib
from dataclasses import dataclass

import astropy_healpix.core as healpix
import numpy as np
from jaxtyping import Bool, Float, Int, UInt64
from scipy.spatial import cKDTree

from .parts import cell
from .records import position
from .survey import Survey

RADIUS = 1.0  # arcsec
CHORD = 2 * np.sin(np.radians(RADIUS / 3600) / 2)
NSIDE = 2**15  # cells 6.4″ wide: all within RADIUS lies in a row's own cell or a neighbour


@dataclass(frozen=True)
class Duplicate:
    """A row left out, because its "targetid" or "position" (within 1″) came before."""

    targetid: str
    reason: str


class Sightings:
    """Remembers ids and positions of galaxies, 40 bytes a row.

    Ids are kept as 64-bit hashes: two different ones among 1e8 agree with probability 3e-4.
    """

    def __init__(self) -> None:
        self._ids = _SortedRuns(width=0)
        self._places = _SortedRuns(width=3)

    def admit(self, survey: Survey) -> tuple[Bool[np.ndarray, "B"], list[Duplicate]]:
        """Which rows are new, and the others by name; remembers the new ones."""
        ra, dec = position(survey)
        repeats = self.repeats(survey.ids, ra, dec, survey.columns.get("survey"))
        duplicates = [
            Duplicate(str(name), reason)
            for reason, repeated in zip(("targetid", "position"), repeats, strict=True)
            for name in survey.ids[repeated]
        ]
        return ~np.logical_or(*repeats), duplicates

    def repeats(
        self,
        targetid: np.ndarray,
        ra: Float[np.ndarray, "B"],
        dec: Float[np.ndarray, "B"],
        survey: np.ndarray | None = None,
    ) -> tuple[Bool[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
        """Which rows repeat an earlier one by id, and which others by position.

        Args:
            targetid: Names of the galaxies.
            ra, dec: ICRS degrees, NaN where unknown.
            survey: Survey of each row; two surveys may well see one galaxy.
        """
        surveys = np.full(len(targetid), "") if survey is None else survey
        hashes = _hash(targetid)
        by_id = np.ones(len(hashes), dtype=bool)
        by_id[np.unique(hashes, return_index=True)[1]] = False
        by_id[self._ids.find(hashes)[0]] = True
        by_position = np.zeros(len(hashes), dtype=bool)
        placed = ~(by_id | np.isnan(ra) | np.isnan(dec))
        for name in np.unique(surveys):
            rows = np.flatnonzero(placed & (surveys == name))
            by_position[rows] = self._crowded(str(name), ra[rows], dec[rows])
        self._ids.add(hashes[~by_id], np.empty((int((~by_id).sum()), 0)))
        return by_id, by_position

    def _crowded(
        self, survey: str, ra: Float[np.ndarray, "B"], dec: Float[np.ndarray, "B"]
    ) -> Bool[np.ndarray, "B"]:
        """Which positions have a kept one within `RADIUS`; remembers the others."""
        cells = _cell_and_neighbours(ra, dec) ^ _hash(np.array([survey]))
        directions = _directions(ra, dec)
        index, seen = self._places.find(cells.ravel())
        row = index % max(len(ra), 1)
        crowded = np.zeros(len(ra), dtype=bool)
        crowded[row[np.linalg.norm(directions[row] - seen, axis=1) <= CHORD]] = True
        for i, j in sorted(cKDTree(directions).query_pairs(CHORD)):
            crowded[j] |= not crowded[i]
        self._places.add(cells[0, ~crowded], directions[~crowded])
        return crowded


class _SortedRuns:
    """Integer keys with a vector each, in sorted runs of falling length.

    Runs merge like the digits of a counter, so a key is moved O(log N) times in all.
    """

    def __init__(self, width: int) -> None:
        self._runs = [(np.empty(0, dtype=np.uint64), np.empty((0, width)))]

    def add(self, keys: UInt64[np.ndarray, "N"], values: Float[np.ndarray, "N D"]) -> None:
        """Adds keys with their vectors; a key may come more than once."""
        keys, values = _sorted(keys, values)
        while self._runs and len(self._runs[-1][0]) <= 2 * len(keys):
            more_keys, more_values = self._runs.pop()
            keys, values = _sorted(
                np.concatenate([more_keys, keys]), np.concatenate([more_values, values])
            )
        self._runs.append((keys, values))

    def find(
        self, keys: UInt64[np.ndarray, "Q"]
    ) -> tuple[Int[np.ndarray, "F"], Float[np.ndarray, "F D"]]:
        """Each match, as its place in `keys` and its vector."""
        places, vectors = [], []
        for run, values in self._runs:
            low, high = np.searchsorted(run, keys, "left"), np.searchsorted(run, keys, "right")
            count = high - low
            first = np.repeat(low - np.cumsum(count) + count, count)
            places.append(np.repeat(np.arange(len(keys)), count))
            vectors.append(values[first + np.arange(len(first))])
        return np.concatenate(places), np.concatenate(vectors)


def _sorted(
    keys: UInt64[np.ndarray, "N"], values: Float[np.ndarray, "N D"]
) -> tuple[UInt64[np.ndarray, "N"], Float[np.ndarray, "N D"]]:
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]


def _hash(names: np.ndarray) -> UInt64[np.ndarray, "N"]:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names.tolist())
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _cell_and_neighbours(
    ra: Float[np.ndarray, "N"], dec: Float[np.ndarray, "N"]
) -> UInt64[np.ndarray, "9 N"]:
    own = cell(ra, dec, NSIDE)
    with np.errstate(invalid="ignore"):  # 24 of the 1e10 cells have seven neighbours
        around = healpix.neighbours(own, NSIDE, order="nested")
    return np.concatenate([own[None], around]).astype(np.uint64)


def _directions(
    ra: Float[np.ndarray, "N"], dec: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N 3"]:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
