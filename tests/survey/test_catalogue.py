"""Missing entries and ids come out the same, whatever the format; `test_labels` has the rest."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from appulse.survey.catalogue import read_columns
from appulse.survey.positions import positions_of


def _all(path):
    return read_columns(path, list)


@pytest.mark.parametrize("kind", ["fits", "ecsv", "parquet"])
def test_missing_integers_are_nan_in_every_format(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": [7, 8, 9], "y": [1, None, 3]}), path)
    else:
        y = MaskedColumn([1, 999, 3], mask=[False, True, False], fill_value=999)
        Table({"id": [7, 8, 9], "y": y}).write(path)
    columns = _all(path)
    np.testing.assert_array_equal(columns["y"], [1, np.nan, 3])
    assert columns["id"].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    "ids",
    [
        ["000123", "000124"],
        ["10.1", "10.2"],
        ["18446744073709551615", "18446744073709551614"],
        ["2018-01-01", "2018-01-02"],
        ["inf", "5"],
        ["", "5"],
    ],
)
@pytest.mark.parametrize("column", ["id", "TARGETID"])
def test_ids_of_csv_are_text_as_it_is_there(tmp_path, ids, column):
    lines = [f"ra,{column},note", *(f"10,{name},2020-01-01" for name in ids)]
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    columns = _all(tmp_path / "a.csv")
    assert positions_of(columns).ids.tolist() == ids
    assert columns["ra"].tolist() == [10, 10]
    assert columns["note"].tolist() == ["2020-01-01"] * 2


def test_csv_of_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id,ra,dec\n")
    columns = _all(tmp_path / "a.csv")
    assert len(positions_of(columns)) == 0
    assert columns["ra"].dtype == np.float64


def test_a_column_with_nothing_in_it_is_nan(tmp_path):
    (tmp_path / "a.csv").write_text("id,ra\na,\nb,\n")
    assert np.isnan(_all(tmp_path / "a.csv")["ra"]).all()


def test_ids_of_csv_are_as_written_but_for_gaps(tmp_path):
    """pandas writes 123.0 where some ids are missing."""
    (tmp_path / "a.csv").write_text("targetid,z\n000123,1\n 123.0,2\nNaN,3\n-1,4\n1.50,5\n")
    found = read_columns(tmp_path / "a.csv", lambda names: names)
    assert found["targetid"].tolist() == ["000123", "123", "", "", "1.50"]
    assert found["z"].tolist() == [1, 2, 3, 4, 5]


def test_missing_numbers_of_scaled_fits_columns_are_the_stored_ones(tmp_path):
    """Unsigned integers are stored less 32768: null 5 means 32773, and 5 is a number."""
    stored = fits.Column("n", "I", array=np.array([5, 7, 32773], np.uint16), bzero=32768, null=5)
    fits.BinTableHDU.from_columns([stored]).writeto(tmp_path / "a.fits")
    found = read_columns(tmp_path / "a.fits", lambda names: names)["n"]
    np.testing.assert_array_equal(found, [5, 7, np.nan])
