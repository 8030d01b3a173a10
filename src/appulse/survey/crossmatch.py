"""Which image and which spectrum are the same galaxy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky
from jaxtyping import Bool, Float, Int

from .images import Images
from .positions import Positions, on_sky
from .spectra import Spectra
from .spool import Spool
from .store_append import PIECE_ROWS
from .survey import Survey

ImageRows = Images | Spool[Images]
SpectrumRows = Spectra | Spool[Spectra]
Placed = ImageRows | SpectrumRows | Positions


@dataclass(frozen=True, eq=False)
class Pairing:
    """Images and spectra of the same galaxies; all arrays hold row numbers.

    Attributes:
        images, spectra: What was paired.
        image_rows, spectrum_rows: Row i of one belongs to row i of the other.
        separation: Between the two positions of each pair, in arcsec; NaN if paired by id.
        unplaced_images, unplaced_spectra: Rows without a position, where pairs are by position.
        unmatched_images, unmatched_spectra: Other rows without any candidate.
        ambiguous_images, ambiguous_spectra: Rows that have, or are, one of several candidates.
    """

    images: ImageRows
    spectra: SpectrumRows
    image_rows: Int[np.ndarray, "P"]
    spectrum_rows: Int[np.ndarray, "P"]
    separation: Float[np.ndarray, "P"]
    unplaced_images: Int[np.ndarray, "N"]
    unplaced_spectra: Int[np.ndarray, "M"]
    unmatched_images: Int[np.ndarray, "U"]
    unmatched_spectra: Int[np.ndarray, "V"]
    ambiguous_images: Int[np.ndarray, "A"]
    ambiguous_spectra: Int[np.ndarray, "C"]

    def __len__(self) -> int:
        return len(self.image_rows)

    @property
    def placed(self) -> bool:
        """Whether every pair has a position, be it of its image or of its spectrum."""
        sides = ((self.images, self.image_rows), (self.spectra, self.spectrum_rows))
        known = [np.isfinite(side.ra[rows] + side.dec[rows]) for side, rows in sides]
        return bool(np.logical_or(*known).all())

    def left_out(self) -> dict[str, list[str]]:
        """Ids of the rows in no pair, by reason."""
        return {
            "unplaced_images": self.images.ids[self.unplaced_images].tolist(),
            "unplaced_spectra": self.spectra.ids[self.unplaced_spectra].tolist(),
            "unmatched_images": self.images.ids[self.unmatched_images].tolist(),
            "unmatched_spectra": self.spectra.ids[self.unmatched_spectra].tolist(),
            "ambiguous_images": self.images.ids[self.ambiguous_images].tolist(),
            "ambiguous_spectra": self.spectra.ids[self.ambiguous_spectra].tolist(),
        }

    def survey(self, pairs: slice = slice(None)) -> Survey:
        """All pairs or some, named by their spectra's ids; column `image_id` keeps the images'.

        Raises:
            ValueError: If there are none.
        """
        if len(self) == 0:
            raise ValueError(
                f"no pair among {len(self.images)} images and {len(self.spectra)} spectra "
                f"({len(self.ambiguous_images)} images ambiguous); check radius and coordinates"
            )
        images = self.images[self.image_rows[pairs]]
        spectra = self.spectra[self.spectrum_rows[pairs]]
        columns = {"image_id": images.ids}
        return Survey(replace(images, ids=spectra.ids), spectra, columns)

    def surveys(self) -> Iterator[Survey]:
        """As `survey`, some pairs at a time.

        Raises:
            ValueError: If there are none.
        """
        for start in range(0, max(len(self), 1), PIECE_ROWS):
            yield self.survey(slice(start, start + PIECE_ROWS))


def pair(
    images: ImageRows,
    spectra: SpectrumRows,
    radius: float = 1.0,
    by: Literal["position", "id"] = "position",
) -> Pairing:
    """Pairs images with spectra by position or by shared id.

    A pair must be the only candidate of both sides; anything else is reported, not guessed.

    Args:
        images: One side.
        spectra: The other.
        radius: Largest separation of a pair, in arcsec.
        by: "position" (ra, dec) or "id".

    Raises:
        ValueError: If no image, or no spectrum, has a position.
    """
    i, j, separation = candidates(images, spectra, radius, by)
    no_image, no_spectrum = (_unplaced(rows, by) for rows in (images, spectra))
    of_image = np.bincount(i, minlength=len(images))
    of_spectrum = np.bincount(j, minlength=len(spectra))
    clear = (of_image[i] == 1) & (of_spectrum[j] == 1)
    return Pairing(
        images=images,
        spectra=spectra,
        image_rows=i[clear],
        spectrum_rows=j[clear],
        separation=separation[clear],
        unplaced_images=np.flatnonzero(no_image),
        unplaced_spectra=np.flatnonzero(no_spectrum),
        unmatched_images=np.flatnonzero((of_image == 0) & ~no_image),
        unmatched_spectra=np.flatnonzero((of_spectrum == 0) & ~no_spectrum),
        ambiguous_images=np.unique(i[~clear]),
        ambiguous_spectra=np.unique(j[~clear]),
    )


def _unplaced(rows: Placed, by: Literal["position", "id"]) -> Bool[np.ndarray, "B"]:
    return ~on_sky(rows.ra, rows.dec) if by == "position" else np.zeros(len(rows), bool)


def candidates(
    a: Placed, b: Placed, radius: float = 1.0, by: Literal["position", "id"] = "position"
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """All pairs of a row of `a` and one of `b` that may be the same galaxy.

    Returns:
        Rows of `a`, rows of `b`, and the separation of each pair in arcsec, NaN by id.

    Raises:
        ValueError: By position, if `radius` is not above 0, or no row of a side has a position.
    """
    if by == "position":
        return _near(a, b, radius)
    i, j = _same_id(a.ids, b.ids)
    return i, j, np.full(len(i), np.nan)


def _near(
    a: Placed, b: Placed, radius: float
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """All pairs of rows within `radius` arcsec, and their separations."""
    if not radius > 0:
        raise ValueError(f"radius is {radius}; expected arcsec above 0")
    rows_a, rows_b = _placed(a), _placed(b)
    here, there = (
        SkyCoord(side.ra[rows], side.dec[rows], unit="deg")
        for side, rows in ((a, rows_a), (b, rows_b))
    )
    i, j, distance, _ = search_around_sky(here, there, radius * units.arcsec)
    order = np.lexsort((j, i))
    return rows_a[i[order]], rows_b[j[order]], distance.arcsec[order]


def _placed(side: Placed) -> Int[np.ndarray, "N"]:
    """Rows with a position."""
    rows = np.flatnonzero(on_sky(side.ra, side.dec))
    if not len(rows):
        what = type(side[:1]).__name__.lower()
        raise ValueError(
            f"none of the {len(side)} {what} has a position, ra from -180 to 360 and dec "
            "from -90 to 90; give coordinates, or match by id"
        )
    return rows


def _same_id(a: np.ndarray, b: np.ndarray) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """All pairs of rows with equal ids."""
    order = np.argsort(b, kind="stable")
    first, end = (np.searchsorted(b[order], a, side=side) for side in ("left", "right"))
    count = end - first
    i = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, order[np.repeat(first, count) + within]
