import csv
import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from appulse import SurveyStore, read_labels
from appulse.survey import bounded
from appulse.survey.labels import attach
from appulse.survey.records import UNITS as STORE_UNITS

TARGETS = 39627866878514700 + np.arange(4)


def _provabgs(**changes):
    """As DESI's BGS_ANY_full.provabgs with the columns that AstroCLIP's scripts add."""
    columns = {
        "TARGETID": TARGETS,
        "TARGET_RA": np.array([10.0, 20, 30, 40]),
        "TARGET_DEC": np.array([-5.0, 0, 5, 10]),
        "Z_HP": np.array([0.1, 0.2, 0.3, -99]),
        "PROVABGS_LOGMSTAR_BF": np.array([10.0, 11.0, -999, 9.0], np.float32),
        "PROVABGS_THETA_BF": np.ones((4, 13)),
        "Z_MW": np.array([0.019, 0.0019, 0.01, 0.0]),
        "TAGE_MW": np.array([5.0, 9.0, 1.0, 2.0]),
        "AVG_SFR": np.array([1.0, 10.0, 1.0, 0.0]),
        **changes,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _zoo():
    """As Galaxy Zoo DECaLS' gz_decals_volunteers_5.csv."""
    return {
        "iauname": np.array(["J1+1", "J2+2", "J3+3"]),
        "ra": np.array([10.0, 20.0, 30.0]),
        "dec": np.array([-5.0, 0.0, 5.0]),
        "redshift": np.array([0.1, np.nan, 0.3]),
        "smooth-or-featured_total-votes": np.array([40, 5, 0]),
        "smooth-or-featured_smooth": np.array([30, 1, 0]),
        "smooth-or-featured_smooth_fraction": np.array([0.75, 0.2, np.nan]),
        "smooth-or-featured_smooth_debiased": np.array([0.7, 0.1, np.nan]),
        "has-spiral-arms_yes_fraction": np.array([0.0, 1.0, np.nan]),
    }


def _write(path, columns):
    match path.suffix:
        case ".h5":
            with h5py.File(path, "w") as file:
                for name, values in columns.items():
                    file[name] = values if values.dtype.kind != "U" else values.astype("S")
        case ".hdf5":
            table = Table(columns)
            table.convert_unicode_to_bytestring()
            with h5py.File(path, "w") as file:
                file["__astropy_table__"] = table.as_array()
        case ".fits":
            Table(columns).write(path)
        case ".ecsv":
            Table(columns).write(path, format="ascii.ecsv")
        case ".parquet":
            pq.write_table(pa.table({k: list(v) for k, v in columns.items()}), path)
        case ".csv":
            with path.open("w", newline="") as handle:
                writer = csv.writer(handle)
                writer.writerow(columns)
                for row in zip(*columns.values(), strict=True):
                    writer.writerow("" if str(v) == "nan" else v for v in row)
    return path


EVERY_KIND = [".fits", ".hdf5", ".h5", ".parquet", ".ecsv"]


@pytest.mark.parametrize("suffix", EVERY_KIND)
def test_provabgs_in_our_names_and_units(tmp_path, suffix):
    labels = read_labels(_write(tmp_path / f"a{suffix}", _provabgs()))
    assert labels.galaxies.ids.tolist() == [str(targetid) for targetid in TARGETS]
    assert labels.galaxies.ra.tolist() == [10, 20, 30, 40]
    assert labels.galaxies.dec.tolist() == [-5, 0, 5, 10]
    nan = np.nan
    expected = {
        "redshift": [0.1, 0.2, 0.3, nan],
        "log_mstar": [10, 11, nan, 9],
        "age": [5, 9, nan, 2],
        "log_zsol": [0, -1, nan, nan],
        "log_ssfr": [-10, -10, nan, nan],
        "ssfr_upstream": [3.9633163, 8.5684865, nan, nan],  # -ln .019; ln 10 - ln .0019
    }
    assert set(labels.columns) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(labels.columns[name], values, atol=1e-6, err_msg=name)
    assert labels.units["log_mstar"] == "dex(Msun), formed"
    assert "1 Gyr per mass formed" in labels.units["log_ssfr"]
    assert labels.units["age"] == "Gyr, mass-weighted"


@pytest.mark.parametrize("suffix", [*EVERY_KIND, ".csv"])
def test_votes_of_galaxy_zoo(tmp_path, suffix):
    labels = read_labels(_write(tmp_path / f"a{suffix}", _zoo()))
    assert labels.galaxies.ids.tolist() == ["J1+1", "J2+2", "J3+3"]
    assert labels.galaxies.ra.tolist() == [10, 20, 30]
    expected = {
        "redshift": [0.1, np.nan, 0.3],
        "smooth_or_featured_total_votes": [40, 5, 0],
        "smooth_or_featured_smooth_fraction": [0.75, 0.2, np.nan],
        "has_spiral_arms_yes_fraction": [0, 1, np.nan],
    }
    assert set(labels.columns) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(labels.columns[name], values, err_msg=name)
    assert labels.units["smooth_or_featured_total_votes"] == "votes"


@pytest.mark.parametrize("kind", ["parquet", "ecsv"])
def test_missing_ids_and_numbers(tmp_path, kind):
    """Ids are too large for float64; other whole numbers become NaN."""
    ids, votes = [int(TARGETS[0]), None, -1], [40, None, 0]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"TARGETID": ids, "a_total-votes": votes}), path)
    else:
        columns = {"TARGETID": ids, "a_total-votes": votes}
        masked = {
            name: np.ma.array([v or 0 for v in values], mask=[v is None for v in values])
            for name, values in columns.items()
        }
        Table(masked).write(path, format="ascii.ecsv")
    labels = read_labels(path)
    assert labels.galaxies.ids.tolist() == [str(TARGETS[0]), "", ""]
    np.testing.assert_array_equal(labels.columns["a_total_votes"], [40, np.nan, 0])


def test_types_of_csv_come_from_all_rows(tmp_path):
    lines = ["ra,dec,redshift", *["1,2,0"] * 400_000, "1.5,2,0.25"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    labels = read_labels(tmp_path / "a.csv")
    assert len(labels) == 400_001
    assert labels.columns["redshift"][-1] == 0.25


def test_other_names_and_fewer_columns(tmp_path):
    table = {"targetid": TARGETS[:1], "Z_BEST": np.array([0.5]), "LOG_MSTAR": np.array([10.5])}
    labels = read_labels(_write(tmp_path / "a.fits", table))
    assert {name: values.tolist() for name, values in labels.columns.items()} == {
        "redshift": [0.5],
        "log_mstar": [10.5],
    }
    assert np.isnan(labels.galaxies.ra).all()


def test_without_labels_the_error_lists_what_is_there(tmp_path):
    path = _write(tmp_path / "a.csv", {"ra": np.ones(2), "magnitude": np.ones(2)})
    with pytest.raises(ValueError, match=r"expected any of Z_HP.*its columns are ra, magnitude"):
        read_labels(path)


def test_a_column_of_something_else_says_so(tmp_path):
    path = _write(tmp_path / "a.parquet", _zoo() | {"redshift": np.array(["a", "b", "c"])})
    with pytest.raises(ValueError, match="column redshift has dtype <U1"):
        read_labels(path)
    path = _write(tmp_path / "a.fits", _provabgs(Z_HP=np.ones((4, 2))))
    with pytest.raises(ValueError, match=r"column Z_HP .* shape \(4, 2\)"):
        read_labels(path)


def test_broken_tables_say_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="is a picture file; expected a table, FITS, HDF5"):
        read_labels(tmp_path / "a.png")
    (tmp_path / "a.csv").write_bytes(b"redshift,ra\n\xff,1\n")
    with pytest.raises(ValueError, match="UTF8"):
        read_labels(tmp_path / "a.csv")
    path = _write(tmp_path / "a.fits", _provabgs())
    path.write_bytes(path.read_bytes().replace(b"TTYPE4", b"\xffTYPE4", 1))
    with pytest.raises(ValueError, match=r"a\.fits cannot be read: "):
        read_labels(path)


@pytest.mark.parametrize("suffix", [*EVERY_KIND, ".csv"])
def test_tables_do_not_unpack_without_bound(tmp_path, monkeypatch, suffix):
    path = _write(tmp_path / f"a{suffix}", _zoo())
    monkeypatch.setattr(bounded, "LIMIT", 20)
    with pytest.raises(ValueError, match="the limit is 0 MiB"):
        read_labels(path)


# --- labels of a survey's galaxies


@pytest.fixture
def copy(tmp_path, galaxies):
    """Six galaxies without labels, number 3 without a position."""
    from dataclasses import replace

    from appulse import Survey

    images, spectra = galaxies.images[:6], galaxies.spectra[:6]
    nowhere = np.where(np.arange(6) == 3, np.nan, 0)
    images, spectra = (replace(x, ra=x.ra + nowhere) for x in (images, spectra))
    return SurveyStore.create(tmp_path / "s.lance", [Survey(images, spectra)])


def _table_of(store, rows, path, **more):
    columns = store.columns(["targetid", "ra", "dec"])
    table = {
        "targetid": columns["targetid"][rows],
        "ra": columns["ra"][rows],
        "dec": columns["dec"][rows],
        "Z_HP": np.arange(len(rows)) / 10,
        "LOG_MSTAR": 10.0 + np.arange(len(rows)),
    }
    return read_labels(_write(path, table | more))


def test_labels_by_id(copy, tmp_path):
    rows = [3, 0, 1, 1]
    labels = _table_of(copy, rows, tmp_path / "a.parquet")
    ids = copy.columns(["targetid"])["targetid"]
    labels.galaxies.ids[1] = "somebody else"
    before = copy.read()
    report = attach(copy, labels)
    assert report == {
        "labelled": 1,
        "unmatched": ids[[0, 2, 4, 5]].tolist(),
        "ambiguous": [ids[1]],
        "duplicate_rows": [2, 3],
        "unused_rows": 1,
        "columns": ["redshift", "log_mstar"],
    }
    json.dumps(report)
    after = SurveyStore.open(copy.path)
    nan = np.nan
    columns = after.columns(["redshift", "log_mstar"])
    np.testing.assert_array_equal(columns["redshift"], [nan, nan, nan, 0.0, nan, nan])
    np.testing.assert_array_equal(columns["log_mstar"], [nan, nan, nan, 10, nan, nan])
    assert after.units["log_mstar"] == "dex(Msun), formed"
    assert after.rows(where="redshift IS NULL").tolist() == [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(after.read().images.flux, before.images.flux)
    np.testing.assert_array_equal(after.read().spectra.flux, before.spectra.flux)


def test_labels_by_position(copy, tmp_path):
    place = copy.columns(["ra", "dec"])
    rows = np.array([4, 2, 0, 1, 1, 5])
    shift = np.array([0, 0.9, 1.1, 0, 0.5, 0]) / 3600  # arcsec, to the north
    labels = _table_of(copy, rows, tmp_path / "a.fits", dec=place["dec"][rows] + shift)
    labels.galaxies.ra[0] = np.nan
    ids = copy.columns(["targetid"])["targetid"]
    report = attach(copy, labels, by="position", radius=1.0, columns=["log_mstar"])
    assert report["labelled"] == 2
    assert report["ambiguous"] == [ids[1]]
    assert report["duplicate_rows"] == [3, 4]
    assert report["unused_rows"] == 2
    assert report["unmatched"] == ids[[0, 3, 4]].tolist()
    nan = np.nan
    masses = copy.columns(["log_mstar"])["log_mstar"]
    np.testing.assert_array_equal(masses, [nan, nan, 11, nan, nan, 15])
    assert "redshift" not in copy.names


def test_one_row_near_two_galaxies_labels_neither(copy, tmp_path):
    labels = _table_of(copy, [0], tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"by position \(5 galaxies ambiguous\)"):
        attach(copy, labels, by="position", radius=3600 * 179.9)


def test_a_second_table_adds_other_columns(copy, tmp_path):
    attach(copy, _table_of(copy, [0, 1], tmp_path / "a.fits"))
    again = _table_of(copy, [0, 1], tmp_path / "b.fits", TAGE_MW=np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="the store has log_mstar, redshift already; leave them"):
        attach(copy, again)
    attach(copy, again, columns=["age"])
    np.testing.assert_array_equal(copy.columns(["age"])["age"][:3], [1, 2, np.nan])
    assert copy.units["age"] == STORE_UNITS["age"]


def test_what_cannot_be_attached(copy, tmp_path):
    labels = _table_of(copy, [0, 1], tmp_path / "a.fits")
    with pytest.raises(ValueError, match="no label colour; it has redshift, log_mstar"):
        attach(copy, labels, columns=["colour"])
    labels.galaxies.ids[:] = "x"
    with pytest.raises(ValueError, match=r"by id \(0 galaxies ambiguous\); the table's ids are"):
        attach(copy, labels)
    assert copy.names == SurveyStore.open(copy.path).names
    assert "redshift" not in copy.names


def test_rows_that_come_later_have_no_labels(copy, tmp_path, galaxies):
    from appulse import Survey

    attach(copy, _table_of(copy, [0, 1], tmp_path / "a.fits"))
    copy.append([Survey(galaxies.images[6:8], galaxies.spectra[6:8])])
    assert np.isnan(copy.columns(["redshift"])["redshift"][2:]).all()
    assert len(copy) == 8
