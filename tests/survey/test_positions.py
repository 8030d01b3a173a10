import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appulse.survey.positions import ids_of, positions_of


@given(st.lists(st.integers(0, 2**53)))
def test_whole_numbers_are_named_as_integers_whatever_their_type(numbers):
    expected = [str(n) for n in numbers]
    assert ids_of(np.array(numbers, np.int64)).tolist() == expected
    assert ids_of(np.array(numbers, np.float64)).tolist() == expected


def test_other_numbers_stay_apart_and_missing_ones_have_no_name():
    assert ids_of(np.array([10.1, 10.2, np.nan, np.inf, -1])).tolist() == [
        *("10.1", "10.2", "", "inf", "")
    ]
    assert ids_of(np.array(["000123", "nan", ""])).tolist() == ["000123", "nan", ""]
    assert ids_of(np.array([2**64 - 1, 5], np.uint64)).tolist() == ["18446744073709551615", "5"]


def test_right_ascensions_from_minus_180_are_turned():
    ra = np.array([-10.0, 350, -180, 360, 400, -999, np.nan, 5])
    found = positions_of({"RA": ra, "dec": np.where(ra == 5, 91, 1.0)})
    assert found.known.tolist() == [True] * 4 + [False] * 4
    assert found.ra[found.known].tolist() == pytest.approx([350, 350, 180, 0])
