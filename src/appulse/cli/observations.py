"""Commands that bring real galaxies together: fetch, pair, label."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .options import Files, Json, PixelScale, RejectsTable, show


def fetch(
    coordinates: Path,
    *,
    out: Path,
    images: bool = True,
    spectra: bool = True,
    layer: str = "ls-dr10",
    size: int = 152,
    radius: float = 1.0,
    rate: float = 1.0,
    cutout_url: str = "https://www.legacysurvey.org/viewer",
    spectrum_url: str = "https://astrosparcl.datalab.noirlab.edu/sparc",
    rejects: RejectsTable = None,
    as_json: Json = False,
) -> None:
    """Fetch Legacy Surveys cutouts and SPARCL spectra at positions on the sky.

    Interrupted, or run again later, it goes on with what is not there yet. Files are named by id:
    OUT/ls-dr10/ID.fits and OUT/sparcl/ID.parquet, to be paired with `appulse pair --by id`.

    Parameters
    ----------
    coordinates
        CSV, FITS, HDF5, Parquet or ECSV table with columns ra, dec [deg, ICRS] and, if known, id.
    out
        Folder to fill; what could not be fetched is listed in its rejects.csv.
    images
        Fetch FITS cutouts in g, r, z.
    spectra
        Fetch the nearest DESI, SDSS or BOSS spectrum.
    layer
        Release of the Legacy Surveys.
    size
        Pixels of a cutout, 0.262 arcsec each.
    radius
        Largest distance of a spectrum from the position, arcsec.
    rate
        Requests per second at most.
    cutout_url
        Where the Legacy Surveys viewer, or a mirror of it, is.
    spectrum_url
        Where the SPARCL API, or a mirror of it, is.
    """
    from .. import observations

    report = observations.fetch(
        coordinates,
        out,
        images=images,
        spectra=spectra,
        layer=layer,
        size=size,
        radius=radius,
        rate=rate,
        cutout_url=cutout_url,
        spectrum_url=spectrum_url,
        rejects=rejects,
    )
    show(report, as_json)


def pair(
    *,
    images: Files,
    spectra: Files,
    out: Path,
    radius: float = 1.0,
    by: Literal["position", "id"] = "position",
    size: int = 152,
    split: Literal["sky", "random"] = "sky",
    pixel_scale: PixelScale = 0.262,
    rejects: RejectsTable = None,
    as_json: Json = False,
) -> None:
    """Pair image files with spectrum files, by position or by id, into a survey store.

    Parameters
    ----------
    images
        Legacy Surveys FITS cutouts, JPEG or PNG of the viewer, HDF5 of AstroCLIP or Stein et al.
    spectra
        DESI coadds, SDSS spec files; HDF5, npz, Parquet, ECSV or FITS tables.
    out
        Survey store to write.
    radius
        Largest separation of a pair, arcsec.
    by
        Match positions on the sky, or names.
    size
        Images are cropped or padded to this many pixels.
    split
        Into parts for training and test: by cells of the sky, .9 degrees wide, so that no cutout
        straddles two, or each galaxy by itself.
    """
    from .. import observations

    report = observations.pair(
        images,
        spectra,
        out,
        radius=radius,
        by=by,
        size=size,
        split=split,
        pixel_scale=pixel_scale,
        rejects=rejects,
    )
    show(report, as_json)


def label(
    *,
    survey: Path,
    table: Path,
    by: Literal["id", "position"] = "id",
    radius: float = 1.0,
    columns: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    as_json: Json = False,
) -> None:
    """Add labels of a catalogue to a survey store, as columns.

    PROVABGS gives redshift, log_mstar [dex Msun, formed], age [Gyr, mass-weighted], log_zsol [dex
    solar], log_ssfr [dex 1/yr, SFR over 1 Gyr], and ssfr_upstream, which AstroCLIP's paper used
    instead. Galaxy Zoo DECaLS gives fractions and numbers of votes.

    Parameters
    ----------
    survey
        Survey store; galaxies without label get nulls.
    table
        FITS, HDF5, Parquet, ECSV or CSV.
    by
        Match names (TARGETID) or positions on the sky.
    radius
        Largest separation, arcsec.
    columns
        Labels to add; all that the table has if left out.
    """
    from .. import observations

    show(observations.label(survey, table, by=by, radius=radius, columns=columns), as_json)
