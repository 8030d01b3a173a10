"""Files in, `Images` and `Spectra` out; the kind of a file is known by its first bytes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float

from ..files import Paths, expand_paths
from ..units import PIXEL_SCALE
from . import desi, hdf5, legacy, sdss
from .bounded import open_fits
from .images import Images
from .rejects import Reject, Rejects
from .resample import fit, to_grid
from .spectra import Spectra
from .survey import Survey

Part = TypeVar("Part", Images, Spectra, Survey)

_MAGIC = {
    b"SIMPLE  =": "FITS",
    b"\x1f\x8b": "FITS",
    b"\x89HDF": "HDF5",
    b"PK\x03\x04": "npz",
    b"\xff\xd8\xff": "picture",
    b"\x89PNG": "picture",
}
_SPECTRUM_HDUS = {"FIBERMAP", "COADD"}  # of DESI and of SDSS


def read_images(
    paths: Paths,
    *,
    size: int | None = None,
    pixel_scale: float = PIXEL_SCALE,
    rejects: Rejects | None = None,
) -> Images:
    """Images from Legacy Surveys FITS cutouts, viewer JPEG or PNG, or the AstroCLIP release.

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
    return Images.concatenate(_some(list(parts), collected))


def read_spectra(
    paths: Paths,
    *,
    grid: Float[np.ndarray, "M"] | None = None,
    rejects: Rejects | None = None,
) -> Spectra:
    """Spectra from DESI coadds, SDSS spec files, HDF5 or npz tables, on one wavelength grid.

    Args:
        paths: A file, a pattern such as "spectra/*.fits", or several of them.
        grid: Wavelengths in Å to rebin to, flux conserved; DESI's 3600 + 0.8 i if left out.
        rejects: Collects bad rows; without it, the first one raises.

    Raises:
        FileNotFoundError: If a pattern matches nothing.
        ValueError: Naming file, row and reason of a bad row, or if no row is good.
    """
    collected = Rejects(strict=True) if rejects is None else rejects
    return Spectra.concatenate(_some(list(iter_spectra(paths, collected, grid=grid)), collected))


def _some(parts: list[Part], rejects: Rejects) -> list[Part]:
    if not parts:
        first = next(iter(rejects), Reject("the files", None, "they hold no rows"))
        raise ValueError(
            f"nothing could be read: {len(rejects)} rejected, first {first.file}: {first.reason}"
        )
    return parts


def iter_images(
    paths: Paths,
    rejects: Rejects,
    *,
    size: int | None = None,
    pixel_scale: float = PIXEL_SCALE,
) -> Iterator[Images]:
    """As `read_images`, but one file, or one part of a large file, after another."""

    def read(path: Path, rejects: Rejects) -> Iterator[Images]:
        match _kind(path):
            case "FITS":
                yield from legacy.read_cutout(path, rejects)
            case "picture":
                yield from legacy.read_picture(path, rejects, pixel_scale)
            case "HDF5":
                yield from (survey.images for survey in hdf5.read_release(path, rejects))
            case kind:
                raise ValueError(f"{kind} files hold no images that appulse reads")

    for images in _each(paths, rejects, read):
        yield images if size is None else fit(images, size)


def iter_spectra(
    paths: Paths, rejects: Rejects, *, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """As `read_spectra`, but one file, or one part of a large file, after another."""

    def read(path: Path, rejects: Rejects) -> Iterator[Spectra]:
        match _kind(path):
            case "FITS":
                with open_fits(path) as hdus:
                    reader = desi.read_coadd if "FIBERMAP" in hdus else sdss.read_spec
                    yield from reader(hdus, path, rejects, grid)
            case "npz":
                yield from sdss.read_table(path, rejects, grid)
            case "HDF5" if hdf5.is_release(path):
                yield from (to_grid(s.spectra, grid) for s in hdf5.read_release(path, rejects))
            case "HDF5":
                yield from hdf5.read_groups(path, rejects, grid)
            case kind:
                raise ValueError(f"{kind} files hold no spectra that appulse reads")

    yield from _each(paths, rejects, read)


def iter_surveys(paths: Paths, rejects: Rejects) -> Iterator[Survey]:
    """Pairs of the AstroCLIP release's HDF5 files, part after part."""
    yield from _each(paths, rejects, hdf5.read_release)


def modality_of(paths: Paths) -> Literal["image", "spectrum"]:
    """What the files hold, by the first one that can be opened and is of a known kind.

    Raises:
        ValueError: If it holds both, or there is none.
    """
    for path in expand_paths(paths):
        try:
            modality = _modality(path)
        except (OSError, ValueError):
            continue
        if modality == "both":
            raise ValueError(f"{path} holds images and spectra; read it as a survey")
        return modality
    raise ValueError(f"cannot tell images from spectra: none of {paths} can be opened")


def _modality(path: Path) -> Literal["image", "spectrum", "both"]:
    match _kind(path):
        case "picture":
            return "image"
        case "npz":
            return "spectrum"
        case "HDF5":
            return "both" if hdf5.is_release(path) else "spectrum"
        case _:
            with open_fits(path) as hdus:
                return "spectrum" if _SPECTRUM_HDUS & {hdu.name for hdu in hdus} else "image"


def _each(
    paths: Paths, rejects: Rejects, read: Callable[[Path, Rejects], Iterator[Part]]
) -> Iterator[Part]:
    for path in expand_paths(paths):
        with rejects.guard(path):
            yield from read(path, rejects)


def _kind(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(16)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    raise ValueError(f"file begins with {start!r}; expected FITS, HDF5, npz, JPEG or PNG")
