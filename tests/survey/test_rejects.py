import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from appulse.survey.rejects import RejectedRowError, Rejects


def test_strict_raises_with_file_row_reason_and_way_out():
    with pytest.raises(ValueError, match=r"a\.fits, row 3: no flux; leave it out$"):
        Rejects(strict=True).add("a.fits", 3, "no flux")


def test_guard_keeps_the_reason_and_goes_on():
    rejects = Rejects()
    with rejects.guard("a.fits"):
        raise KeyError("FLUX")
    with rejects.guard("b.fits", 1):
        raise ValueError("two\nlines")
    assert [tuple(r) for r in rejects] == [
        ("a.fits", None, "KeyError: 'FLUX'"),
        ("b.fits", 1, "two lines"),
    ]


def test_strict_guard_names_the_place_once_and_the_cause():
    rejects = Rejects(strict=True)
    with pytest.raises(RejectedRowError) as caught, rejects.guard("f"), rejects.guard("f", 2):
        raise OSError("torn")
    assert str(caught.value).count("row 2") == 1
    assert isinstance(caught.value.__cause__, OSError)


def test_interrupts_pass_through():
    with pytest.raises(KeyboardInterrupt), Rejects().guard("f"):
        raise KeyboardInterrupt


def _picky(rows):
    if (rows % 3 == 0).any():
        raise ValueError("divisible")
    return rows.tolist()


def test_salvage_survives_whatever_a_broken_file_raises():
    rejects = Rejects()

    def build(rows):
        if 12 in rows:
            raise OSError("cannot decompress")
        return rows.tolist()

    assert list(rejects.salvage("f", np.arange(10, 15), build)) == [[10], [11], [13], [14]]
    assert [(r.row, r.reason) for r in rejects] == [(12, "OSError: cannot decompress")]


def test_salvage_builds_good_rows_together_and_finds_the_bad_ones():
    rejects = Rejects()
    assert list(rejects.salvage("f", np.array([1, 2]), _picky)) == [[1, 2]]
    assert list(rejects.salvage("f", np.arange(10, 15), _picky)) == [[10], [11], [13], [14]]
    assert [(r.row, r.reason) for r in rejects] == [(12, "divisible")]


@pytest.mark.parametrize("n", [0, 2])
def test_tables_are_written(tmp_path, n):
    rejects = Rejects()
    for row in range(n):
        rejects.add("a,b.fits", row or None, 'said "no"\n')
    rejects.write(tmp_path / "r.csv")
    rejects.write(tmp_path / "r.parquet")
    with (tmp_path / "r.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [r["reason"] for r in rows] == ['said "no"\n'] * n
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.column_names == ["file", "row", "reason"]
    assert table["row"].to_pylist() == [None, 1][:n]
