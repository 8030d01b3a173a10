"""The kind of a file, by its first bytes; its name without the suffixes of kinds."""

from pathlib import Path

_MAGIC = {
    b"SIMPLE  =": "FITS",
    b"\x1f\x8b": "FITS",
    b"\x89HDF": "HDF5",
    b"PAR1": "Parquet",
    b"# %ECSV": "ECSV",
    b"PK\x03\x04": "npz",
    b"\xff\xd8\xff": "picture",
    b"\x89PNG": "picture",
}

_SUFFIXES = {".fits", ".fit", ".fts", ".fz", ".gz", ".ecsv", ".csv", ".txt", ".dat"} | {
    *(".parquet", ".jpg", ".jpeg", ".png")
}


def kind_of(path: Path, otherwise: str | None = None) -> str:
    """FITS, HDF5, Parquet, ECSV, npz or picture; `otherwise` for all else.

    Raises:
        ValueError: If the file is of none of these kinds, unless `otherwise` is given.
    """
    with path.open("rb") as handle:
        start = handle.read(16)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if otherwise is None:
        raise ValueError(
            f"file begins with {start!r}; expected FITS, HDF5, Parquet, ECSV, npz, JPEG or PNG"
        )
    return otherwise


def name_of(path: Path) -> str:
    """A galaxy's name by its file's: "gal_2.2058" of gal_2.2058.fits.gz."""
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path.name
