"""Spectra of DESI: coadd-*.fits and spectra-*.fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import FITS_rec, HDUList
from jaxtyping import Float, Int

from ..units import DESI_PIXELS, DESI_START, DESI_STEP
from .bounded import fits_image
from .rejects import Rejects
from .resample import to_grid
from .spectra import Spectra

_CHUNK = 256  # rows in memory at once
_WHAT = ("FLUX", "IVAR", "MASK")

# FIBERSTATUS bits of fibres that DESI's own coadds leave out (desispec, fiberbitmasking.py):
# BROKENFIBER, MISSINGPOSITION, BADPOSITION, BRIGHTNEIGHBOR, BADFIBER, BADTRACE, BADFLAT, BADARC,
# MANYREJECTED; and of arms whose amplifiers are bad, BADAMPB, BADAMPR, BADAMPZ
_FATAL = sum(1 << bit for bit in (2, 8, 9, 11, 16, 17, 18, 19, 21))
_BAD_ARM = {"B": 1 << 22, "R": 1 << 23, "Z": 1 << 24}


def read_coadd(
    hdus: HDUList, path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """The targets of one file, in chunks of rows, on `grid` (DESI's if left out).

    The b, r, z arms (or a merged brz) are averaged by inverse variance. Sky fibres (OBJTYPE
    other than TGT) are passed over; of fibres that FIBERSTATUS calls bad all pixels are masked,
    or those of an arm. Ids are TARGETID, with -EXPID after it where the file holds
    several exposures of a target.
    """
    table = hdus["FIBERMAP"].data
    arms = _arms(hdus, len(table))
    target = _is_target(table)
    ids = _ids(table)
    status = _status(table)

    def build(rows: Int[np.ndarray, "N"]) -> Spectra:
        flux, ivar = _merged(hdus, arms, status[rows], rows)
        ra, dec = table["TARGET_RA"][rows], table["TARGET_DEC"][rows]
        return to_grid(Spectra.from_arrays(flux, ivar=ivar, ids=ids[rows], ra=ra, dec=dec), grid)

    for start in range(0, len(table), _CHUNK):
        rows = start + np.flatnonzero(target[start : start + _CHUNK])
        if len(rows):
            yield from rejects.salvage(path, rows, build)


def _is_target(table: FITS_rec) -> np.ndarray:
    if "OBJTYPE" not in table.names:
        return np.ones(len(table), bool)
    return np.char.strip(table["OBJTYPE"].astype(str)) == "TGT"


def _status(table: FITS_rec) -> Int[np.ndarray, "B"]:
    """Bits of FIBERSTATUS; a coadd, which has none, is made of good fibres alone."""
    if "FIBERSTATUS" not in table.names:
        return np.zeros(len(table), int)
    return table["FIBERSTATUS"].astype(int)


def _ids(table: FITS_rec) -> np.ndarray:
    ids = table["TARGETID"].astype(str)
    if "EXPID" in table.names and len(np.unique(ids)) < len(ids):
        return np.char.add(np.char.add(ids, "-"), table["EXPID"].astype(str))
    return ids


def _arms(hdus: HDUList, rows: int) -> dict[str, slice]:
    """The arms in the file, and which pixels of the DESI grid each covers."""
    arms = {}
    for arm in ("B", "R", "Z", "BRZ"):
        if f"{arm}_FLUX" not in hdus:
            continue
        wavelength = fits_image(hdus[f"{arm}_WAVELENGTH"])
        first = round((wavelength[0] - DESI_START) / DESI_STEP)
        expected = DESI_START + DESI_STEP * (first + np.arange(len(wavelength)))
        if not np.allclose(wavelength, expected, rtol=0, atol=0.01):
            raise ValueError(f"{arm}_WAVELENGTH is not on DESI's grid 3600 + 0.8 i Å")
        if first < 0 or first + len(wavelength) > DESI_PIXELS:
            raise ValueError(f"{arm}_WAVELENGTH reaches beyond 3600-9824 Å")
        arms[arm] = slice(first, first + len(wavelength))
        for hdu in (hdus[f"{arm}_{what}"] for what in _WHAT if f"{arm}_{what}" in hdus):
            if hdu.shape != (rows, len(wavelength)):
                raise ValueError(
                    f"{hdu.name} has shape {hdu.shape}; expected {(rows, len(wavelength))} from "
                    f"FIBERMAP and {arm}_WAVELENGTH"
                )
    if not arms or rows == 0:
        raise ValueError(f"file has {rows} rows and arms {sorted(arms)}; expected some of each")
    return arms


def _merged(
    hdus: HDUList,
    arms: dict[str, slice],
    status: Int[np.ndarray, "B"],
    rows: Int[np.ndarray, "B"],
) -> tuple[Float[np.ndarray, "B L"], Float[np.ndarray, "B L"]]:
    """Mean over arms weighted by inverse variance, and its inverse variance."""
    weighted = np.zeros((len(rows), DESI_PIXELS), np.float32)
    ivar = np.zeros_like(weighted)
    for arm, pixels in arms.items():
        flux, weight = (_rows(hdus[f"{arm}_{what}"], rows) for what in ("FLUX", "IVAR"))
        good = np.isfinite(flux) & np.isfinite(weight) & (weight > 0)
        good &= (status & (_FATAL | _BAD_ARM.get(arm, 0)) == 0)[:, None]
        if f"{arm}_MASK" in hdus:
            good &= _rows(hdus[f"{arm}_MASK"], rows) == 0
        weighted[:, pixels] += np.where(good, flux * weight, 0)
        ivar[:, pixels] += np.where(good, weight, 0)
    return weighted / np.where(ivar > 0, ivar, 1), ivar


def _rows(hdu: Any, rows: Int[np.ndarray, "B"]) -> np.ndarray:
    """Some rows of an image in the machine's byte order; no other is read or unpacked."""
    pixels = hdu.section[rows[0] : rows[-1] + 1][rows - rows[0]]
    return pixels.astype(pixels.dtype.newbyteorder("="))
