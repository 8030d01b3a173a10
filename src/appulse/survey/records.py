"""Surveys as Arrow records: how a galaxy is laid out on disk.

A row holds the pixels of both observations as fixed-size lists, masks as packed bits (null where
nothing is masked), and one column for each entry of `Survey.columns`. What is missing is null on
disk; in memory it is NaN, "", -1 or False in columns of floats, strings, integers and booleans.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Shaped

from ..units import DESI_PIXELS, DESI_START, DESI_STEP, FLUX_UNIT, desi_grid
from .images import Images
from .parts import Split, cell
from .spectra import Spectra
from .survey import COLUMN_UNITS, Survey

LARGEST_FLUX = float(np.finfo(np.float16).max)  # 65504 nanomaggies; brighter pixels are masked
HEALPIX_NSIDE = 64
IMAGE_COLUMNS = ("targetid", "ra", "dec", "image", "image_mask", "pixel_scale", "kind")
SPECTRUM_COLUMNS = ("targetid", "ra", "dec", "flux", "ivar", "spectrum_mask", "wavelength")
PIXEL_COLUMNS = {"image", "image_mask", "flux", "ivar", "spectrum_mask", "wavelength"}
OWN_COLUMNS = {*IMAGE_COLUMNS, *SPECTRUM_COLUMNS, "healpix", "part", "images", "spectra"}
UNITS = {
    **COLUMN_UNITS,
    "ra": "deg, ICRS",
    "dec": "deg, ICRS",
    "healpix": f"cell, NESTED, nside {HEALPIX_NSIDE}",
    "image": "nanomaggy",
    "pixel_scale": "arcsec",
    "flux": FLUX_UNIT,
    "ivar": f"({FLUX_UNIT})^-2",
    "wavelength": "Angstrom, vacuum, observed frame",
    "ebv": "mag",
    **{f"depth_{band}": "mag, AB, 5 sigma point source" for band in "grz"},
    **{f"psf_{band}": "arcsec, FWHM" for band in "grz"},
}
_ARROW_TYPES = {"b": pa.bool_(), "i": pa.int64(), "u": pa.int64(), "U": pa.string()}


def schema_of(survey: Survey, split: Split) -> pa.Schema:
    """The layout of a store whose first survey is this one.

    Wavelengths on the DESI grid are kept once, as metadata; any others in a column.
    """
    shape, length = survey.images.flux.shape[1:], survey.spectra.flux.shape[1]
    types = {
        "targetid": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "healpix": pa.int64(),
        "part": pa.string(),
        "image": pa.list_(pa.float16(), int(np.prod(shape))),
        "image_mask": pa.binary(),
        "pixel_scale": pa.float64(),
        "kind": pa.string(),
        "flux": pa.list_(pa.float32(), length),
        "ivar": pa.list_(pa.float32(), length),
        "spectrum_mask": pa.binary(),
    }
    metadata = {"appulse": "survey", "split": split.to_json(), "image_shape": json.dumps(shape)}
    if _on_desi_grid(survey.spectra):
        grid = {"start": DESI_START, "step": DESI_STEP, "pixels": DESI_PIXELS}
        metadata["wavelength"] = json.dumps(grid)
    else:
        types["wavelength"] = pa.list_(pa.float64(), length)
    fields = [_field(name, kind) for name, kind in types.items()]
    return pa.schema(fields + new_fields(survey, pa.schema(fields)), metadata=metadata)


def new_fields(survey: Survey, schema: pa.Schema) -> list[pa.Field]:
    """Fields for the survey's columns that the schema lacks.

    Raises:
        ValueError: On a column whose name is the store's own.
        TypeError: On a column of something else than floats, integers, strings or booleans.
    """
    taken = sorted(OWN_COLUMNS & set(survey.columns))
    if taken:
        raise ValueError(f"columns {taken} are the store's own names; rename or drop them")
    names = [name for name in survey.columns if name not in schema.names]
    return [column_field(name, survey.columns[name], UNITS) for name in names]


def column_field(name: str, values: Shaped[np.ndarray, "B"], units: Mapping[str, str]) -> pa.Field:
    """The field of a column of floats, integers, strings or booleans."""
    return _field(name, _arrow_type(name, values.dtype), units)


def position(survey: Survey) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """Right ascension and declination: the image's, or the spectrum's where that has none."""
    known = ~(np.isnan(survey.images.ra) | np.isnan(survey.images.dec))
    ra = np.where(known, survey.images.ra, survey.spectra.ra)
    return ra, np.where(known, survey.images.dec, survey.spectra.dec)


def encode(survey: Survey, schema: pa.Schema) -> pa.RecordBatch:
    """The survey's rows as records of this schema.

    Images become float16: brighter pixels than `LARGEST_FLUX` are set to 0 and masked.

    Raises:
        ValueError: If sizes, wavelengths or column types differ from the schema's.
    """
    _require_fit(survey, schema)
    images, spectra = survey.images, survey.spectra
    ra, dec = position(survey)
    cells = cell(ra, dec, HEALPIX_NSIDE)
    too_bright = np.abs(images.flux) > LARGEST_FLUX
    arrays = {
        "targetid": pa.array(survey.ids),
        "ra": pa.array(ra, from_pandas=True),
        "dec": pa.array(dec, from_pandas=True),
        "healpix": pa.array(cells, mask=cells < 0),
        "part": pa.array(split_of(schema).assign(survey.ids, ra, dec)),
        "image": _lists(np.where(too_bright, 0, images.flux).astype(np.float16)),
        "image_mask": _bits(images.mask | too_bright),
        "pixel_scale": pa.array(images.pixel_scale),
        "kind": pa.repeat(images.kind, len(survey)),
        "flux": _lists(spectra.flux.astype(np.float32, copy=False)),
        "ivar": _lists(spectra.ivar.astype(np.float32, copy=False)),
        "spectrum_mask": _bits(spectra.mask),
    }
    if "wavelength" in schema.names:
        arrays["wavelength"] = _lists(spectra.wavelength)
    for field in schema:
        if field.name not in arrays:
            arrays[field.name] = encode_column(survey.columns.get(field.name), field, len(survey))
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def sources(fields: Sequence[str], schema: pa.Schema, pixels: bool = True) -> list[str]:
    """The columns that hold these fields: "images", "spectra" or columns with a value a row.

    Raises:
        ValueError: On a field that the schema lacks, or on images and spectra without `pixels`.
    """
    known = {name: [name] for name in schema.names if name not in PIXEL_COLUMNS}
    if pixels:
        known["images"] = list(IMAGE_COLUMNS)
        known["spectra"] = [name for name in SPECTRUM_COLUMNS if name in schema.names]
    missing = [field for field in fields if field not in known]
    if missing:
        raise ValueError(f"there is no {', '.join(missing)}; expected any of {', '.join(known)}")
    return list(dict.fromkeys(name for field in fields for name in known[field]))


def decode(field: str, table: pa.Table, schema: pa.Schema) -> Any:
    """`Images`, `Spectra` or an array, from records that hold the field's `sources`."""
    if field == "images":
        return _images(table, _image_shape(schema))
    if field == "spectra":
        return _spectra(table)
    return column(table[field])


def column(values: pa.Array | pa.ChunkedArray) -> Shaped[np.ndarray, "B"]:
    """A column as NumPy has it; null becomes NaN, "", -1 or False."""
    if pa.types.is_string(values.type):
        return np.array(values.fill_null("").to_pylist(), dtype=np.str_)
    if pa.types.is_boolean(values.type):
        return np.array(values.fill_null(False))
    return np.array(values.fill_null(-1 if pa.types.is_integer(values.type) else np.nan))


def _images(table: pa.Table, shape: tuple[int, ...]) -> Images:
    kinds = table["kind"].unique().to_pylist()
    if len(kinds) != 1:
        raise ValueError(f"rows hold images of kinds {kinds}; choose with where=\"kind = 'flux'\"")
    flux = _pixels(table["image"], np.float32).reshape(-1, *shape)
    return Images(
        ids=column(table["targetid"]),
        flux=flux,
        pixel_scale=column(table["pixel_scale"]),
        mask=_unpack(table["image_mask"], flux[0].size).reshape(flux.shape),
        ra=column(table["ra"]),
        dec=column(table["dec"]),
        kind=kinds[0],
    )


def _spectra(table: pa.Table) -> Spectra:
    flux = _pixels(table["flux"], np.float32)
    if "wavelength" in table.schema.names:
        wavelength = _pixels(table["wavelength"], np.float64)
    else:
        wavelength = np.broadcast_to(desi_grid(), flux.shape)
    return Spectra(
        ids=column(table["targetid"]),
        wavelength=wavelength,
        flux=flux,
        ivar=_pixels(table["ivar"], np.float32),
        mask=_unpack(table["spectrum_mask"], flux.shape[1]),
        ra=column(table["ra"]),
        dec=column(table["dec"]),
    )


def split_of(schema: pa.Schema) -> Split:
    """How the store with this schema divides its rows into parts."""
    return Split.from_json(schema.metadata[b"split"].decode())


def _field(name: str, kind: pa.DataType, units: Mapping[str, str] = UNITS) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": units[name]} if name in units else None)


def _arrow_type(name: str, dtype: np.dtype) -> pa.DataType:
    if dtype.kind == "f":
        return pa.float64() if dtype.itemsize > 4 else pa.float32()
    if dtype.kind not in _ARROW_TYPES:
        raise TypeError(
            f"column {name!r} has dtype {dtype}; expected floats, integers, strings or booleans"
        )
    return _ARROW_TYPES[dtype.kind]


def _image_shape(schema: pa.Schema) -> tuple[int, ...]:
    return tuple(json.loads(schema.metadata[b"image_shape"]))


def _on_desi_grid(spectra: Spectra) -> bool:
    grid = desi_grid()
    return spectra.wavelength.shape[1] == len(grid) and bool((spectra.wavelength == grid).all())


def _require_fit(survey: Survey, schema: pa.Schema) -> None:
    shape = _image_shape(schema)
    if survey.images.flux.shape[1:] != shape:
        raise ValueError(
            f"images have shape {survey.images.flux.shape[1:]}, the store's {shape}; "
            "crop or pad them first, or start another store"
        )
    length = schema.field("flux").type.list_size
    if survey.spectra.flux.shape[1] != length:
        raise ValueError(
            f"spectra have {survey.spectra.flux.shape[1]} pixels, the store's {length}; "
            "rebin them first, or start another store"
        )
    if "wavelength" not in schema.names and not _on_desi_grid(survey.spectra):
        raise ValueError("the store's spectra are on the DESI grid; rebin these to it first")


def encode_column(values: Shaped[np.ndarray, "B"] | None, field: pa.Field, rows: int) -> pa.Array:
    """A column as it is on disk: nulls for NaN, "" and a column that is not there."""
    if values is None:
        return pa.nulls(rows, field.type)
    text = values.dtype.kind == "U"
    try:
        if text != pa.types.is_string(field.type):
            raise pa.ArrowInvalid("numbers are no text")
        return pa.array(values, mask=values == "" if text else None, from_pandas=True).cast(
            field.type
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"column {field.name!r} is {values.dtype}, the store's {field.type}: {error}"
        ) from error


def _lists(values: Shaped[np.ndarray, "B ..."]) -> pa.FixedSizeListArray:
    rows = values.reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def _pixels(lists: pa.ChunkedArray, dtype: type) -> Shaped[np.ndarray, "B L"]:
    """All rows, as a copy: Arrow's own memory is read-only."""
    pixels = lists.combine_chunks().flatten().to_numpy()
    return pixels.astype(dtype).reshape(len(lists), -1)


def _bits(mask: Bool[np.ndarray, "B ..."]) -> pa.Array:
    rows = np.packbits(mask.reshape(len(mask), -1), axis=1)
    return pa.array([row.tobytes() if row.any() else None for row in rows], pa.binary())


def _unpack(packed: pa.ChunkedArray, pixels: int) -> Bool[np.ndarray, "B L"]:
    mask = np.zeros((len(packed), pixels), dtype=bool)
    masked = np.flatnonzero(packed.is_valid())
    if len(masked):
        data = np.frombuffer(b"".join(packed.drop_null().to_pylist()), dtype=np.uint8)
        bits = np.unpackbits(data.reshape(len(masked), -1), axis=1, count=pixels)
        mask[masked] = bits.view(bool)
    return mask
