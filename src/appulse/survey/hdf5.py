"""HDF5 files: the AstroCLIP release, the images of Stein et al., and one group per spectrum."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jaxtyping import Float, Int

from .bounded import hdf5_rows
from .images import Images
from .positions import ids_of
from .rejects import Rejects
from .resample import to_grid
from .rows import default_ids
from .spectra import Spectra
from .survey import Survey

_CHUNK = 256  # rows in memory at once
_OBJECT = ("release", "brickid", "objid")  # name an object of the Legacy Surveys
_RELEASE = ("image", "spectrum", "redshift", "targetid")


def contents_of(path: Path) -> Literal["release", "images", "spectra"]:
    """What the file holds: pairs of the AstroCLIP release, images of Stein et al., or spectra."""
    with h5py.File(path) as file:
        if isinstance(file.get("images"), h5py.Dataset):
            return "images"
        groups = (group for group in file.values() if isinstance(group, h5py.Group))
        return "release" if any("image" in group for group in groups) else "spectra"


def read_release(path: Path, rejects: Rejects) -> Iterator[Survey]:
    """Pairs of the AstroCLIP release (Parker et al. 2024), in chunks of rows.

    Its groups "0" to "9" hold `image` (N, x, y, band) in nanomaggies, `spectrum` (N, 7781, 1) on
    DESI's grid without errors, `redshift` and `targetid`. Row numbers run through all groups.
    """
    with h5py.File(path) as file:
        first = 0
        for name in sorted(file, key=lambda name: (len(name), name)):
            group = file[name]
            n = _release_rows(group)
            for start in range(0, n, _CHUNK):
                rows = first + np.arange(start, min(start + _CHUNK, n))
                yield from rejects.salvage(path, rows, partial(_release_part, group, first))
            first += n


def _release_rows(group: h5py.Group) -> int:
    missing = [key for key in _RELEASE if key not in group]
    if missing:
        raise ValueError(f"group {group.name} has no {', '.join(missing)}; expected {_RELEASE}")
    lengths = {len(group[key]) for key in _RELEASE}
    if len(lengths) != 1:
        raise ValueError(f"datasets of group {group.name} have lengths {sorted(lengths)}")
    return lengths.pop()


def _release_part(group: h5py.Group, first: int, rows: Int[np.ndarray, "N"]) -> Survey:
    """Successive rows of a group that begins with row `first`."""
    part = slice(int(rows[0]) - first, int(rows[-1]) + 1 - first)
    arrays = {key: hdf5_rows(group[key], part) for key in _RELEASE}
    ids = ids_of(arrays["targetid"])
    return Survey(
        Images.from_arrays(arrays["image"].transpose(0, 3, 2, 1), ids=ids),
        Spectra.from_arrays(arrays["spectrum"][:, :, 0], ids=ids),
        {"redshift": arrays["redshift"].astype(np.float64)},
    )


def read_stein(path: Path, rejects: Rejects) -> Iterator[Images]:
    """Cutouts of ssl-legacysurvey (Stein et al. 2021), in chunks of rows.

    `images` (N, 3, y, x) holds g, r, z in nanomaggies, 0 where the survey has no data; `ra` and
    `dec` the positions. Ids are DESI's TARGETID, of which `release`, `brickid` and `objid` are
    parts (desitarget, targetmask.yaml), or `inds` in a file without them.
    """
    with h5py.File(path) as file:
        n = _stein_rows(file)
        ids = _stein_ids(file, n)
        ra, dec = (hdf5_rows(file[key], slice(0, n)).astype(np.float64) for key in ("ra", "dec"))

        def build(rows: Int[np.ndarray, "N"]) -> Images:
            flux = hdf5_rows(file["images"], slice(int(rows[0]), int(rows[-1]) + 1))
            return Images.from_arrays(
                flux, mask=flux == 0, ids=ids[rows], ra=ra[rows], dec=dec[rows]
            )

        for start in range(0, n, _CHUNK):
            yield from rejects.salvage(path, np.arange(start, min(start + _CHUNK, n)), build)


def _stein_rows(file: h5py.File) -> int:
    lengths = {key: len(file[key]) for key in ("images", "ra", "dec") if key in file}
    if len(lengths) < 3 or len(set(lengths.values())) != 1:
        raise ValueError(f"rows are {lengths}; expected as many of images as of ra and dec")
    return lengths["images"]


def _stein_ids(file: h5py.File, n: int) -> np.ndarray:
    def integers(key: str) -> Int[np.ndarray, "N"]:
        return hdf5_rows(file[key], slice(0, n)).astype(np.int64)

    if all(key in file for key in _OBJECT):
        release, brick, number = map(integers, _OBJECT)
        return (release << 42 | brick << 22 | number).astype(str)
    return integers("inds").astype(str) if "inds" in file else default_ids(n)


def read_groups(
    path: Path, rejects: Rejects, grid: Float[np.ndarray, "M"] | None = None
) -> Iterator[Spectra]:
    """One spectrum per group, rebinned to `grid` (DESI's if left out).

    A group holds `wave` in Å (vacuum) and `flux` in 1e-17 erg/s/cm²/Å, and may hold `ivar` and
    `mask`, with `targetid`, `ra`, `dec` as attributes. Its id is `targetid` or its own name.
    """
    with h5py.File(path) as file:
        for row, (name, group) in enumerate(file.items()):
            with rejects.guard(path, row):
                columns = {
                    key: hdf5_rows(group[key], slice(0, len(group[key])))
                    for key in ("wave", "flux", "ivar", "mask")
                    if key in group
                }
                spectra = Spectra.from_arrays(
                    columns["flux"][None],
                    wavelength=columns["wave"],
                    ivar=columns.get("ivar"),
                    mask=columns["mask"][None] if "mask" in columns else None,
                    ids=ids_of(np.ravel(group.attrs.get("targetid", name))),
                    ra=float(group.attrs.get("ra", np.nan)),
                    dec=float(group.attrs.get("dec", np.nan)),
                )
                yield to_grid(spectra, grid)
