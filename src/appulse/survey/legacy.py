"""Cutouts of the DESI Legacy Imaging Surveys: the viewer's FITS, JPEG and PNG files."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import HDUList, Header
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales
from jaxtyping import Float

from ..units import BANDS, PIXEL_SCALE
from .bounded import fits_image, open_fits, picture
from .images import Images
from .kind import name_of
from .rejects import Rejects
from .resample import to_scale

# The viewer interpolates to the scale one asks for without a factor for the pixels' area:
# values stay nanomaggies per native pixel (legacysurvey/imagine, views.py, render_into_wcs).
_VIEWER_SURVEYS = ("LegacySurvey", "DECaLS", "MzLS")
_NANOMAGGIES = re.compile(r"nanomagg(y|ie)s?( ?/ ?pix(el)?)?", re.IGNORECASE)


def read_cutout(path: Path, rejects: Rejects) -> Iterator[Images]:
    """One galaxy from a FITS cutout, at 0.262″ per pixel.

    Bands are found by the header (`BANDS`, `BAND0`... or one `BAND` per HDU), scale and position
    by the WCS. Pixels with zero inverse variance are masked; without an invvar HDU, those that
    are exactly 0, as the viewer writes where there are no data.
    """
    with rejects.guard(path, 0), open_fits(path) as hdus:
        header, flux, invvar = _planes(hdus)
        scale, ra, dec = _position(header, flux.shape)
        if header.get("SURVEY") in _VIEWER_SURVEYS:
            flux = flux * np.float32((scale / PIXEL_SCALE) ** 2)
        images = Images.from_arrays(
            flux[None],
            mask=((flux if invvar is None else invvar) == 0)[None],
            ids=[name_of(path)],
            pixel_scale=scale,
            ra=ra,
            dec=dec,
        )
        yield to_scale(images)


def _planes(
    hdus: HDUList,
) -> tuple[Header, Float[np.ndarray, "3 y x"], Float[np.ndarray, "3 y x"] | None]:
    """Header, flux and inverse variance, from one cube or from one HDU for each band.

    HDUs that name no band are passed over.
    """
    planes: dict[tuple[str, str], np.ndarray] = {}
    headers: list[Header] = []
    for hdu in hdus:
        kind = str(hdu.header.get("IMAGETYP", "image")).lower()
        if not hdu.is_image or not hdu.shape or kind == "maskbits":
            continue
        kind = "invvar" if kind == "invvar" else "image"
        bands = _by_band(hdu)
        if bands:
            headers.append(hdu.header)
        for band, plane in bands.items():
            if (kind, band) in planes:
                raise ValueError(f"band {band} occurs twice: the cutout spans several bricks")
            planes[kind, band] = plane
    missing = [band for band in BANDS if ("image", band) not in planes]
    if missing:
        found = sorted(band for kind, band in planes if kind == "image")
        raise ValueError(
            f"no band {', '.join(missing)}; expected g, r, z, one letter per plane in BANDS or "
            f"BAND0, BAND1..., found {found} (use Images.from_arrays for other files)"
        )
    flux = np.stack([planes["image", band] for band in BANDS])
    weighted = all(("invvar", band) in planes for band in BANDS)
    return headers[0], flux, np.stack([planes["invvar", b] for b in BANDS]) if weighted else None


def _by_band(hdu: Any) -> dict[str, np.ndarray]:
    header, n = hdu.header, hdu.shape[0] if len(hdu.shape) == 3 else 1
    named = [str(header[f"BAND{i}"]) for i in range(10) if f"BAND{i}" in header]
    bands = named or list(str(header.get("BANDS", header.get("BAND", ""))))
    if not bands:
        return {}
    unit = str(header.get("BUNIT", "nanomaggy"))
    if not _NANOMAGGIES.fullmatch(unit.strip()):
        raise ValueError(f"unit is {unit}; expected nanomaggies, so convert and use from_arrays")
    if len(bands) != n or len(hdu.shape) not in (2, 3):
        raise ValueError(
            f"header names bands {bands} for pixels of shape {hdu.shape}; expected one per plane"
        )
    pixels = fits_image(hdu)
    return dict(zip(bands, pixels if pixels.ndim == 3 else pixels[None], strict=True))


def _position(header: Header, shape: tuple[int, int, int]) -> tuple[float, float, float]:
    """Arcsec per pixel, and the centre's ra and dec in degrees."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header, naxis=2)
    if not wcs.has_celestial:
        raise ValueError("no celestial WCS, so no pixel scale; use Images.from_arrays instead")
    scales = proj_plane_pixel_scales(wcs) * 3600
    if not np.isclose(scales[0], scales[1], rtol=0.01):
        raise ValueError(f"pixels of {scales[0]:.3f} by {scales[1]:.3f} arcsec are not square")
    ra, dec = wcs.pixel_to_world_values((shape[2] - 1) / 2, (shape[1] - 1) / 2)
    return float(scales.mean()), float(ra), float(dec)


def read_picture(
    path: Path, rejects: Rejects, pixel_scale: float = PIXEL_SCALE
) -> Iterator[Images]:
    """One galaxy from a viewer's JPEG or PNG, `kind="rgb"`, at 0.262″ per pixel.

    Pictures begin in the north and FITS images in the south: rows are turned to the FITS order.

    Args:
        path: The file; its name without suffix becomes the id.
        rejects: Where an unreadable file goes.
        pixel_scale: Arcsec per pixel of the file, which does not know it.
    """
    with rejects.guard(path, 0):
        pixels = picture(path)[::-1].transpose(2, 0, 1)
        image = Images.from_arrays(
            pixels[None], ids=[name_of(path)], pixel_scale=pixel_scale, kind="rgb"
        )
        yield to_scale(image)
