"""HDF5 files: the AstroCLIP release, and one group per spectrum."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from .bounded import hdf5_rows
from .images import Images
from .rejects import Rejects
from .resample import to_grid
from .spectra import Spectra
from .survey import Survey

_CHUNK = 256  # rows in memory at once
_RELEASE = ("image", "spectrum", "redshift", "targetid")


def is_release(path: Path) -> bool:
    """Whether the file's first group looks like the AstroCLIP release's."""
    with h5py.File(path) as file:
        return any(isinstance(group, h5py.Group) and "image" in group for group in file.values())


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
                part = slice(start, min(start + _CHUNK, n))
                arrays = {key: hdf5_rows(group[key], part) for key in _RELEASE}
                rows = first + np.arange(n)[part]
                yield from rejects.salvage(path, rows, partial(_release_part, arrays, int(rows[0])))
            first += n


def _release_rows(group: h5py.Group) -> int:
    missing = [key for key in _RELEASE if key not in group]
    if missing:
        raise ValueError(f"group {group.name} has no {', '.join(missing)}; expected {_RELEASE}")
    lengths = {len(group[key]) for key in _RELEASE}
    if len(lengths) != 1:
        raise ValueError(f"datasets of group {group.name} have lengths {sorted(lengths)}")
    return lengths.pop()


def _release_part(chunk: dict[str, np.ndarray], first: int, rows: Int[np.ndarray, "N"]) -> Survey:
    """Some rows of a chunk that begins with row `first`."""
    arrays = {key: array[rows - first] for key, array in chunk.items()}
    ids = arrays["targetid"].astype(str)
    return Survey(
        Images.from_arrays(arrays["image"].transpose(0, 3, 2, 1), ids=ids),
        Spectra.from_arrays(arrays["spectrum"][:, :, 0], ids=ids),
        {"redshift": arrays["redshift"].astype(np.float64)},
    )


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
                    ids=[str(group.attrs.get("targetid", name))],
                    ra=float(group.attrs.get("ra", np.nan)),
                    dec=float(group.attrs.get("dec", np.nan)),
                )
                yield to_grid(spectra, grid)
