"""Labels from catalogues: PROVABGS and Galaxy Zoo tables, under appulse's names and units."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from .catalogue import read_columns
from .crossmatch import candidates
from .positions import Positions, find, position_columns, positions_of
from .rows import require_rows
from .store import SurveyStore
from .survey import COLUMN_UNITS

SOLAR_METALLICITY = 0.019  # mass fraction; what PROVABGS takes for solar (Hahn et al. 2023)
UNITS = {
    **COLUMN_UNITS,
    "log_mstar": "dex(Msun), formed",
    "log_zsol": f"dex(solar), mass-weighted, Z_sun = {SOLAR_METALLICITY}",
    "log_ssfr": "dex(1/yr), SFR over the last 1 Gyr per mass formed",
    "ssfr_upstream": "ln(Msun/yr) - ln(metal mass fraction), as AstroCLIP computed it",
}
_SOURCES = {  # what we need: names that catalogues give it, the first one counts
    "redshift": ("Z_HP", "Z_BEST", "redshift", "z_spec"),
    "mass": ("PROVABGS_LOGMSTAR_BF", "LOG_MSTAR"),
    "metallicity": ("Z_MW",),
    "age": ("TAGE_MW",),
    "sfr": ("AVG_SFR",),
}
_VOTES = ("_fraction", "_total-votes")  # how Galaxy Zoo's columns end


@dataclass(frozen=True, eq=False)
class Labels:
    """What a catalogue says of its galaxies; row i of each column is one galaxy.

    Attributes:
        galaxies: Their names and places.
        columns: Labels by name, NaN where unknown.
        units: Units of the columns.
    """

    galaxies: Positions
    columns: dict[str, Float[np.ndarray, "B"]]
    units: dict[str, str]

    def __post_init__(self) -> None:
        require_rows(len(self.galaxies), **self.columns)

    def __len__(self) -> int:
        return len(self.galaxies)


def read_labels(path: str | Path) -> Labels:
    """Labels from a table in FITS, HDF5, Parquet, ECSV or CSV.

    PROVABGS (Hahn et al. 2023), best fits. `redshift` is Z_HP or Z_BEST; `log_mstar` the mass
    formed, from PROVABGS_LOGMSTAR_BF or LOG_MSTAR; `log_zsol` log10(Z_MW / 0.019); `age` TAGE_MW
    in Gyr, mass-weighted; `log_ssfr` log10(AVG_SFR) - log_mstar, with the star formation rate
    averaged over the last 1 Gyr. `ssfr_upstream` is ln(AVG_SFR) - ln(Z_MW), which Parker et al.
    (2024) called sSFR: only for comparison with that paper. Rows without a fit, whose mass is not
    above 0, are NaN but for their redshift.

    Galaxy Zoo DECaLS (Walmsley et al. 2022): each `*_fraction` of votes, and `*_total-votes`, with
    hyphens turned to underscores.

    Raises:
        ValueError: If no column is one of these, listing those that are there.
    """

    def choose(names: Sequence[str]) -> list[str]:
        found = [name for name in (find(names, s) for s in _SOURCES.values()) if name is not None]
        found += [name for name in names if name.endswith(_VOTES)]
        if not found:
            expected = ", ".join(name for names in _SOURCES.values() for name in names)
            raise ValueError(
                f"{path} has no labels: expected any of {expected} or Galaxy Zoo's *_fraction; "
                f"its columns are {', '.join(names)}"
            )
        return list(dict.fromkeys([*found, *position_columns(names)]))

    table = read_columns(Path(path), choose)
    columns = {**_properties(table), **_votes(table)}
    units = {name: UNITS.get(name, "votes" if name.endswith("_votes") else "") for name in columns}
    return Labels(positions_of(table), columns, units)


def _properties(table: dict[str, Any]) -> dict[str, Float[np.ndarray, "B"]]:
    known = {}
    for ours, names in _SOURCES.items():
        name = find(list(table), names)
        if name is not None:
            known[ours] = _numbers(table[name], name)
    columns = {}
    if "redshift" in known:
        columns["redshift"] = np.where(known["redshift"] > -1, known["redshift"], np.nan)
    if "mass" in known:
        fitted = known["mass"] > 0
        known = {name: np.where(fitted, values, np.nan) for name, values in known.items()}
        columns["log_mstar"] = known["mass"]
    if "age" in known:
        columns["age"] = known["age"]
    if "metallicity" in known:
        columns["log_zsol"] = _log(known["metallicity"]) - np.log10(SOLAR_METALLICITY)
    if {"sfr", "mass"} <= set(known):
        columns["log_ssfr"] = _log(known["sfr"]) - known["mass"]
    if {"sfr", "metallicity"} <= set(known):
        ratio = _log(known["sfr"]) - _log(known["metallicity"])
        columns["ssfr_upstream"] = ratio * np.log(10)
    return columns


def _votes(table: dict[str, Any]) -> dict[str, Float[np.ndarray, "B"]]:
    votes = {name: _numbers(table[name], name) for name in table if name.endswith(_VOTES)}
    return {
        name.replace("-", "_"): np.where(values >= 0, values, np.nan)
        for name, values in votes.items()
    }


def _numbers(values: np.ndarray, name: str) -> Float[np.ndarray, "B"]:
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"column {name} has dtype {values.dtype} and shape {values.shape}; "
            "expected one number a row"
        )
    return values.astype(np.float64)


def _log(values: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
    """Decimal logarithm; NaN of what is not above 0."""
    return np.log10(np.where(values > 0, values, np.nan))


def attach(
    store: SurveyStore,
    labels: Labels,
    *,
    by: Literal["id", "position"] = "id",
    radius: float = 1.0,
    columns: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Adds labels to a store as columns, and says which galaxies went without, and why.

    A row of the table labels a galaxy if each is the other's only candidate; what is ambiguous is
    reported and left unlabelled.

    Args:
        store: Gets the columns; galaxies without label get NaN.
        labels: As `read_labels` returns them.
        by: Match ids (of the survey's galaxies, their `targetid`) or positions.
        radius: Largest separation, in arcsec.
        columns: Which labels to add; all if left out.

    Returns:
        labelled: How many galaxies got labels. unmatched, ambiguous: Ids of those that did not.
        duplicate_rows: Rows of the table that compete for a galaxy. unused_rows: How many other
        rows match none.

    Raises:
        ValueError: If nothing matches, on labels that the table does not have, or columns that the
            store has already.
    """
    chosen = _chosen(labels, columns)
    galaxies = Positions(**{_FIELDS[k]: v for k, v in store.columns(list(_FIELDS)).items()})
    i, j, _ = candidates(galaxies, labels.galaxies, radius, by)
    of_galaxy = np.bincount(i, minlength=len(galaxies))
    of_row = np.bincount(j, minlength=len(labels))
    clear = (of_galaxy[i] == 1) & (of_row[j] == 1)
    if not clear.any():
        raise ValueError(
            f"no row of the table belongs to one of the survey's galaxies by {by} "
            f"({len(np.unique(i))} galaxies ambiguous); the table's ids are like "
            f"{labels.galaxies.ids[:2].tolist()}, the survey's like {galaxies.ids[:2].tolist()}"
        )
    added = {name: np.full(len(galaxies), np.nan) for name in chosen}
    for name, values in added.items():
        values[i[clear]] = labels.columns[name][j[clear]]
    store.add_columns(added, labels.units)
    return {
        "labelled": int(clear.sum()),
        "unmatched": galaxies.ids[of_galaxy == 0].tolist(),
        "ambiguous": galaxies.ids[np.unique(i[~clear])].tolist(),
        "duplicate_rows": np.unique(j[~clear]).tolist(),
        "unused_rows": int((of_row == 0).sum()),
        "columns": chosen,
    }


_FIELDS = {"targetid": "ids", "ra": "ra", "dec": "dec"}


def _chosen(labels: Labels, columns: Sequence[str] | None) -> list[str]:
    missing = [name for name in columns or () if name not in labels.columns]
    if missing:
        raise ValueError(
            f"the table has no label {', '.join(missing)}; it has {', '.join(labels.columns)}"
        )
    return list(columns or labels.columns)
