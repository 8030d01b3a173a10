"""The four disjoint parts of a survey."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from astropy import units
from astropy_healpix import HEALPix
from jaxtyping import Float, Int

PARTS = ("encoder-train", "head-train", "validation", "test")
FRACTIONS = {"encoder-train": 0.6, "head-train": 0.15, "validation": 0.05, "test": 0.2}


@dataclass(frozen=True)
class Split:
    """Which part each galaxy belongs to.

    The part is a keyed hash of the galaxy's id, or of its sky cell, so rows that come later
    never move earlier ones, and sizes follow `fractions` within binomial error.

    Attributes:
        fractions: Share of each of `PARTS`; they sum to 1.
        by: "random" hashes the id; "sky" the HEALPix cell, so that overlapping cutouts and one
            galaxy seen by two surveys never straddle two parts.
        seed: Key of the hash.
        nside: HEALPix (NESTED) resolution of the cells; 16 makes them 3.7° wide.
    """

    fractions: Mapping[str, float] = field(default_factory=lambda: dict(FRACTIONS))
    by: Literal["random", "sky"] = "random"
    seed: int = 0
    nside: int = 16

    def __post_init__(self) -> None:
        if set(self.fractions) != set(PARTS):
            raise ValueError(f"fractions name {sorted(self.fractions)}; expected {list(PARTS)}")
        if min(self.fractions.values()) < 0 or abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError(f"fractions are {self.fractions}; expected shares that sum to 1")
        if self.by not in ("random", "sky"):
            raise ValueError(f"split by {self.by!r}; expected 'random' or 'sky'")

    def to_json(self) -> str:
        """The split as a line of text, for a store's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Split":
        """The split that `to_json` wrote down."""
        return cls(**json.loads(text))

    def assign(
        self, ids: np.ndarray, ra: Float[np.ndarray, "B"], dec: Float[np.ndarray, "B"]
    ) -> np.ndarray:
        """The part of each galaxy, shape (B,).

        Raises:
            ValueError: For `by="sky"`, on rows without a position.
        """
        if self.by == "random":
            return self._part_of(ids)
        missing = np.isnan(ra) | np.isnan(dec)
        if missing.any():
            raise ValueError(
                f"{missing.sum()} rows have no position, among them {ids[missing][:5].tolist()}; "
                "give ra and dec, or split by 'random'"
            )
        cells, index = np.unique(cell(ra, dec, self.nside), return_inverse=True)
        return self._part_of(cells)[index]

    def _part_of(self, keys: np.ndarray) -> np.ndarray:
        edges = np.cumsum([self.fractions[part] for part in PARTS[:-1]])
        return np.array(PARTS)[np.searchsorted(edges, self._uniform(keys), side="right")]

    def _uniform(self, keys: np.ndarray) -> Float[np.ndarray, "B"]:
        """A number in [0, 1) for each key, the same on every machine."""
        seed = str(self.seed).encode()
        digests = b"".join(
            hashlib.blake2b(str(key).encode(), digest_size=8, key=seed).digest()
            for key in keys.tolist()
        )
        return (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)) * 2.0**-53


def cell(
    ra: Float[np.ndarray, "B"], dec: Float[np.ndarray, "B"], nside: int
) -> Int[np.ndarray, "B"]:
    """HEALPix cell (NESTED) of positions in degrees; -1 where there is none."""
    known = ~(np.isnan(ra) | np.isnan(dec))
    cells = np.full(len(ra), -1)
    cells[known] = HEALPix(nside, order="nested").lonlat_to_healpix(
        ra[known] * units.deg, dec[known] * units.deg
    )
    return cells
