"""Files in, `Images` and `Spectra` out; the kind of a file is known by its first bytes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from astropy.io.fits import HDUList
from jaxtyping import Float

from ..files import Paths, expand_paths
from ..units import PIXEL_SCALE
from . import desi, hdf5, legacy, sdss, spectral_tables
from .bounded import open_fits
from .images import Images
from .kind import kind_of
from .rejects import Reject, Rejects
from .resample import fit, to_grid
from .spectra import Spectra

Part = TypeVar("Part")
LEAST_FILLED = 0.25  # of a stamp by its image; a galaxy may well fill half of each side

_SPECTRUM_HDUS = {"FIBERMAP", "COADD"}  # of DESI and of SDSS
_HDF5_MODALITY: dict[str, Literal["image", "spectrum", "both"]] = {
    "release": "both",
    "images": "image",
    "spectra": "spectrum",
}


def read_images(
    paths: Paths,
    *,
    size: int | None = None,
    pixel_scale: float = PIXEL_SCALE,
    rejects: Rejects | None = None,
) -> Images:
    """Images from Legacy Surveys FITS cutouts, viewer JPEG or PNG, or HDF5.

    HDF5 files are those of the AstroCLIP release or of ssl-legacysurvey (Stein et al. 2021).

    Args:
        paths: A file, a pattern such as "cutouts/*.fits", or several of them.
        size: Crop or pad to this many pixels; needed where files differ in size.
        pixel_scale: Arcsec per pixel of JPEG and PNG; FITS files know theirs.
        rejects: Collects bad rows; without it, the first one raises.

    Raises:
        FileNotFoundError: If a pattern matches nothing.
        ValueError: Naming file, row and reason of a bad row, or if no row is good.
    """
    collected = Rejects(strict=True) if rejects is None else rejects
    parts = iter_images(paths, collected, size=size, pixel_scale=pixel_scale)
    return Images.concatenate(list(some(parts, collected)))


def read_spectra(
    paths: Paths,
    *,
    grid: Float[np.ndarray, "M"] | None = None,
    rejects: Rejects | None = None,
) -> Spectra:
    """Spectra from DESI coadds, SDSS spec files and tables, on one wavelength grid.

    Tables are HDF5, npz, Parquet, ECSV or FITS; `appulse.survey.spectral_tables` says which
    columns and units they have.

    Args:
        paths: A file, a pattern such as "spectra/*.fits", or several of them.
        grid: Wavelengths in Å to rebin to, flux conserved; DESI's 3600 + 0.8 i if left out.
        rejects: Collects bad rows; without it, the first one raises.

    Raises:
        FileNotFoundError: If a pattern matches nothing.
        ValueError: Naming file, row and reason of a bad row, or if no row is good.
    """
    collected = Rejects(strict=True) if rejects is None else rejects
    parts = iter_spectra(paths, collected, grid=grid)
    return Spectra.concatenate(list(some(parts, collected)))


def some(parts: Iterator[Part], rejects: Rejects) -> Iterator[Part]:
    """The same parts; raises ValueError if there are none."""
    first = next(parts, None)
    if first is None:
        raise ValueError(f"nothing could be read: {_first_of(rejects)}")
    yield first
    yield from parts


def _first_of(rejects: Rejects) -> str:
    first = next(iter(rejects), Reject("the files", None, "they hold no rows"))
    return f"{len(rejects)} rejected, first {first.file}: {first.reason}"


def iter_images(
    paths: Paths,
    rejects: Rejects,
    *,
    size: int | None = None,
    pixel_scale: float = PIXEL_SCALE,
) -> Iterator[Images]:
    """As `read_images`, but one file, or one part of a large file, after another."""

    def read(path: Path, rejects: Rejects) -> Iterator[Images]:
        for images in _images(path, rejects, pixel_scale):
            yield from [images] if size is None else _fitted(images, size, path, rejects)

    yield from _each(paths, rejects, read)


def _images(path: Path, rejects: Rejects, pixel_scale: float) -> Iterator[Images]:
    match kind_of(path):
        case "FITS":
            yield from legacy.read_cutout(path, rejects)
        case "picture":
            yield from legacy.read_picture(path, rejects, pixel_scale)
        case "HDF5" if hdf5.contents_of(path) == "images":
            yield from hdf5.read_stein(path, rejects)
        case "HDF5":
            yield from (survey.images for survey in hdf5.read_release(path, rejects))
        case kind:
            raise ValueError(f"{kind} files hold no images that appulse reads")


def _fitted(images: Images, size: int, path: Path, rejects: Rejects) -> Iterator[Images]:
    """Cropped or padded, if that leaves observations."""
    y, x = images.flux.shape[2:]
    if min(y, size) * min(x, size) >= LEAST_FILLED * size**2:
        yield fit(images, size)
        return
    for name in images.ids:
        rejects.add(
            *(path, None),
            f"image {name} has {y} by {x} pixels and fills less than a quarter of {size} by "
            f"{size}: ask for fewer pixels (size)",
        )


def iter_spectra(
    paths: Paths, rejects: Rejects, *, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """As `read_spectra`, but one file, or one part of a large file, after another."""

    def read(path: Path, rejects: Rejects) -> Iterator[Spectra]:
        match kind_of(path):
            case "FITS":
                with open_fits(path) as hdus:
                    yield from _fits_reader(hdus)(hdus, path, rejects, grid)
            case "npz":
                yield from sdss.read_table(path, rejects, grid)
            case "Parquet":
                yield from spectral_tables.read_parquet(path, rejects, grid)
            case "ECSV":
                yield from spectral_tables.read_ecsv(path, rejects, grid)
            case "HDF5":
                yield from _hdf5_spectra(path, rejects, grid)
            case kind:
                raise ValueError(f"{kind} files hold no spectra that appulse reads")

    yield from _each(paths, rejects, read)


def _fits_reader(hdus: HDUList) -> Callable[..., Iterator[Spectra]]:
    if "FIBERMAP" in hdus:
        return desi.read_coadd
    if any(map(spectral_tables.is_spectrum, hdus)):
        return spectral_tables.read_fits
    return sdss.read_spec


def _hdf5_spectra(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None
) -> Iterator[Spectra]:
    match hdf5.contents_of(path):
        case "release":
            yield from (to_grid(s.spectra, grid) for s in hdf5.read_release(path, rejects))
        case "spectra":
            yield from hdf5.read_groups(path, rejects, grid)
        case _:
            raise ValueError("file holds images and no spectra; read it with read_images")


def modality_of(paths: Paths) -> Literal["image", "spectrum"]:
    """What the files hold, by the first one that can be read and is of a known kind.

    Raises:
        ValueError: If it holds both, or there is none.
    """
    rejects, modality = Rejects(), None
    for path in expand_paths(paths):
        with rejects.guard(path):
            modality = _modality(path)
        if modality == "both":
            raise ValueError(
                f"{path} holds images and spectra; make a survey of it: `appulse pair --by id`"
            )
        if modality is not None:
            return modality
    raise ValueError(f"cannot tell images from spectra: {_first_of(rejects)}")


def _modality(path: Path) -> Literal["image", "spectrum", "both"]:
    match kind_of(path):
        case "picture":
            return "image"
        case "npz" | "Parquet" | "ECSV":
            return "spectrum"
        case "HDF5":
            return _HDF5_MODALITY[hdf5.contents_of(path)]
        case _:
            with open_fits(path) as hdus:
                return "spectrum" if _holds_spectra(hdus) else "image"


def _holds_spectra(hdus: HDUList) -> bool:
    named = _SPECTRUM_HDUS & {hdu.name for hdu in hdus}
    return bool(named) or any(map(spectral_tables.is_spectrum, hdus))


def _each(
    paths: Paths, rejects: Rejects, read: Callable[[Path, Rejects], Iterator[Part]]
) -> Iterator[Part]:
    for path in expand_paths(paths):
        with rejects.guard(path):
            yield from read(path, rejects)
