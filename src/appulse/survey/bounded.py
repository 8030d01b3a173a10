"""Opening files that may be hostile: nothing is unpickled, nothing unpacks without bound."""

import gzip
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning
from jaxtyping import Float
from PIL import Image

LIMIT = 2 * 2**30  # bytes that one file, or one piece of it, may unpack to
_PIECE = 2**20


def require_size(n_bytes: int, what: str) -> None:
    """Raises ValueError if `what` would take more than `LIMIT` bytes once unpacked."""
    if n_bytes > LIMIT:
        raise ValueError(
            f"{what} unpacks to {n_bytes / 2**20:,.0f} MiB; the limit is {LIMIT / 2**20:,.0f} MiB "
            "(appulse.survey.bounded.LIMIT)"
        )


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """A FITS file, memory-mapped; a gzipped one is first unpacked to a temporary file.

    Raises:
        OSError: If the file is cut short or not FITS.
    """
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    with ExitStack() as stack:
        plain = stack.enter_context(_gunzipped(path)) if packed else path
        yield stack.enter_context(_all_headers(plain))


def _all_headers(path: Path | str) -> fits.HDUList:
    """Opens the file and reads every header, so that a missing end shows now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.filterwarnings("error", ".*truncated", AstropyUserWarning)
        try:
            return fits.open(path, memmap=True, lazy_load_hdus=False)
        except AstropyUserWarning as error:
            raise OSError(str(error)) from error


@contextmanager
def _gunzipped(path: Path) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=".fits") as plain:
        with gzip.open(path) as packed:
            size = 0
            while piece := packed.read(_PIECE):
                size += len(piece)
                require_size(size, str(path.name))
                plain.write(piece)
        plain.flush()
        yield plain.name


def fits_image(hdu: Any) -> Float[np.ndarray, "..."]:
    """The pixels of an image HDU, compressed or not, as float32."""
    require_size(4 * int(np.prod(hdu.shape, dtype=float)), f"image HDU {hdu.name or 0}")
    return np.asarray(hdu.data, dtype=np.float32)


def hdf5_rows(dataset: h5py.Dataset, rows: slice) -> np.ndarray:
    """Some rows of an HDF5 dataset."""
    row = int(np.prod(dataset.shape[1:], dtype=float)) * dataset.dtype.itemsize
    chunk = int(np.prod(dataset.chunks or (0,), dtype=float)) * dataset.dtype.itemsize
    require_size(max(row * (rows.stop - rows.start), chunk), f"dataset {dataset.name}")
    return dataset[rows]


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file."""
    with zipfile.ZipFile(path) as archive:
        require_size(sum(member.file_size for member in archive.infolist()), path.name)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def picture(path: Path) -> Float[np.ndarray, "y x 3"]:
    """Red, green and blue in [0, 1] of a JPEG or PNG, first row on top."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        require_size(12 * image.width * image.height, path.name)
        if image.mode not in ("RGB", "RGBA", "P"):
            raise ValueError(f"picture has mode {image.mode}; expected colours (RGB)")
        return np.asarray(image.convert("RGB"), dtype=np.float32) / 255
