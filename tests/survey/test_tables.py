import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from appulse.survey.tables import read_table, write_table


@pytest.fixture
def table():
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
    columns = {
        "name": ["NGC 1", "", "Mkn 3 é"],
        "z": [0.1, float("nan"), 2.0],
        "n": pa.array([1, -2, 2**40]),
        "good": [True, False, True],
        "vector": lists,
    }
    return pa.table(columns).replace_schema_metadata({"survey": "ours"})


@pytest.mark.parametrize("suffix", ["parquet", "fits"])
def test_a_table_comes_back(table, tmp_path, suffix):
    write_table(table, tmp_path / f"t.{suffix}")
    back = read_table(tmp_path / f"t.{suffix}")
    assert back.column_names == table.column_names
    assert back.schema.metadata[b"survey"] == b"ours"
    for name in table.column_names:
        assert str(back[name].to_pylist()) == str(table[name].to_pylist()), name


def test_fits_is_what_astropy_reads(table, tmp_path):
    write_table(table, tmp_path / "t.fits")
    seen = Table.read(tmp_path / "t.fits")
    assert seen["vector"].shape == (3, 2)
    assert seen.meta["SURVEY"] == "ours"


def test_other_suffixes_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match=r"ends in '.csv'; expected .parquet or .fits"):
        write_table(table, tmp_path / "t.csv")
