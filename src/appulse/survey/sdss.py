"""Spectra of SDSS and BOSS: spec-*.fits, and npz tables of padded rows on their log-λ grids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import FITS_rec, HDUList
from jaxtyping import Bool, Float, Int

from .air import is_air, to_vacuum
from .bounded import npz_arrays
from .kind import name_of
from .rejects import Rejects
from .resample import to_grid
from .spectra import Spectra

STEP = 1e-4  # log10 λ between pixels

# and_mask bits that spoil a pixel: FULLREJECT, NOSKY, BRIGHTSKY, NODATA (SDSS SPPIXMASK)
_BAD_BITS = 1 << 18 | 1 << 22 | 1 << 23 | 1 << 24


def read_spec(
    hdus: HDUList, path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """The one spectrum of a spec-PLATE-MJD-FIBER.fits, rebinned to `grid` (DESI's if left out).

    Its id is BESTOBJID, the photometric object, or PLATE-MJD-FIBER where there is none. If a
    header says that wavelengths are in air, they are converted to vacuum.
    """
    with rejects.guard(path, 0):
        coadd = _coadd(hdus)
        flagged = coadd["and_mask"] if "AND_MASK" in _upper(coadd) else np.zeros(len(coadd), int)
        identity, ra, dec = _object(hdus)
        wavelength = 10 ** _straightened(np.asarray(coadd["loglam"], np.float64))
        spectra = Spectra.from_arrays(
            coadd["flux"][None],
            wavelength=to_vacuum(wavelength) if _in_air(hdus) else wavelength,
            ivar=coadd["ivar"][None],
            mask=spoilt(flagged)[None],
            ids=[identity or name_of(path).removeprefix("spec-")],
            ra=ra,
            dec=dec,
        )
        yield to_grid(spectra, grid)


def _in_air(hdus: HDUList) -> bool:
    return any(is_air(hdu.header) for hdu in hdus[:2])


def _coadd(hdus: HDUList) -> FITS_rec:
    table = hdus[1].data if len(hdus) > 1 else None
    missing = {"FLUX", "LOGLAM", "IVAR"} - _upper(table)
    if table is None or missing:
        raise ValueError(f"HDU 1 has no column {', '.join(sorted(missing))}: not an SDSS spec file")
    return table


def _object(hdus: HDUList) -> tuple[str, float, float]:
    """Photometric id ("" if none), ra and dec."""
    table = hdus[2].data if len(hdus) > 2 else None
    names = _upper(table)
    if table is None or not {"PLUG_RA", "PLUG_DEC"} <= names:
        header = hdus[0].header
        return "", header.get("PLUG_RA", np.nan), header.get("PLUG_DEC", np.nan)
    identity = str(table["BESTOBJID"][0]).strip() if "BESTOBJID" in names else ""
    position = float(table["PLUG_RA"][0]), float(table["PLUG_DEC"][0])
    return "" if identity == "0" else identity, *position


def _upper(table: Any) -> set[str]:
    """Column names; none if the HDU is missing or an image."""
    return {name.upper() for name in table.names} if isinstance(table, FITS_rec) else set()


def _straightened(loglam: Float[np.ndarray, "L"]) -> Float[np.ndarray, "L"]:
    """The even grid behind values that were rounded to float32, whose steps jitter by 0.2 %."""
    even = np.linspace(loglam[0], loglam[-1], len(loglam))
    return even if np.allclose(loglam, even, rtol=0, atol=1e-6) else loglam


def spoilt(and_mask: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Which pixels these bits of an and_mask spoil."""
    return (and_mask & _BAD_BITS) != 0


def read_table(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """Rows of an npz, each on its own part of SDSS's log-λ grid, rebinned to `grid`.

    Arrays: `flux`, `ivar`, `and_mask` (N, L), of which row i has `npix[i]` pixels that begin at
    `loglam0[i]`, 1e-4 dex apart; `ra`, `dec`, `bestobjid`, `plate`, `mjd`, `fiber` if known.
    """
    columns = npz_arrays(path)
    missing = {"flux", "ivar", "and_mask", "npix", "loglam0"} - set(columns)
    if missing:
        raise ValueError(f"no array {', '.join(sorted(missing))}; found {sorted(columns)}")
    unknown = np.full(len(columns["flux"]), np.nan)
    for row, n in enumerate(columns["npix"]):
        with rejects.guard(path, row):
            spectra = Spectra.from_arrays(
                columns["flux"][row : row + 1, :n],
                wavelength=10 ** (columns["loglam0"][row] + STEP * np.arange(n)),
                ivar=columns["ivar"][row : row + 1, :n],
                mask=spoilt(columns["and_mask"][row : row + 1, :n]),
                ids=[_row_id(columns, row)],
                ra=columns.get("ra", unknown)[row],
                dec=columns.get("dec", unknown)[row],
            )
            yield to_grid(spectra, grid)


def _row_id(columns: dict[str, np.ndarray], row: int) -> str:
    known = {name: array[row] for name, array in columns.items() if array.ndim == 1}
    if str(known.get("bestobjid", "")).strip() not in ("", "0"):
        return str(known["bestobjid"]).strip()
    fibre = [float(known.get(name, np.nan)) for name in ("plate", "mjd", "fiber")]
    return "{:04.0f}-{:.0f}-{:04.0f}".format(*fibre) if np.isfinite(fibre).all() else str(row)
