from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appulse.survey.kind import name_of

SUFFIXES = ("fits", "fit", "fits.gz", "fits.fz", "ecsv", "parquet", "jpg", "jpeg", "PNG", "FITS.GZ")


@given(st.from_regex(r"[a-z]+_[0-9]+\.[0-9]+_[+-]?[0-9]\.[0-9]+", fullmatch=True))
def test_only_known_suffixes_are_no_part_of_a_name(name):
    for suffix in SUFFIXES:
        assert name_of(Path("folder.fits") / f"{name}.{suffix}") == name
    assert name_of(Path(name)) == name
