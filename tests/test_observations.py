import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from appulse import observations
from appulse.survey.parts import Split, cell
from appulse.survey.store import SurveyStore


def test_files_are_paired_and_the_rest_is_accounted_for(tmp_path, files):
    names = [*files.cutouts, files.folder / "beside-05.fits", files.broken]
    report = observations.pair(
        names, files.coadd, tmp_path / "s.lance", size=64, rejects=tmp_path / "rejects.parquet"
    )
    assert report.pop("rejected")[0]["file"] == str(files.broken)
    assert report == {
        "pairs": 7,
        "unplaced_images": [],
        "unplaced_spectra": [],
        "unmatched_images": ["galaxy-00", "galaxy-01"],
        "unmatched_spectra": ["1010", "1011"],
        "ambiguous_images": ["galaxy-05", "beside-05"],
        "ambiguous_spectra": ["1005"],
        "duplicates": [],
    }
    (reject,) = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert "begins with b'hello'" in reject["reason"]
    made = SurveyStore.open(tmp_path / "s.lance").read()
    numbers = [2, 3, 4, 6, 7, 8, 9]
    assert made.ids.tolist() == [str(1000 + i) for i in numbers]
    assert made.columns["image_id"].tolist() == [f"galaxy-{i:02d}" for i in numbers]
    np.testing.assert_allclose(made.images.flux, files.galaxies.images.flux[numbers], atol=1e-6)
    expected = files.galaxies.spectra.flux[numbers]
    np.testing.assert_allclose(made.spectra.flux, expected, rtol=1e-6)


def test_parts_are_cells_of_the_sky_unless_asked_otherwise(tmp_path, files):
    """Every galaxy of a cell is in the cell's part; by id, whatever the cell."""
    for how in ("sky", "random"):
        out = tmp_path / f"{how}.lance"
        observations.pair(files.cutouts, files.coadd, out, size=64, split=how)
        store = SurveyStore.open(out)
        assert store.split.by == how
        where = store.columns(["targetid", "ra", "dec", "part"])
        cells = cell(where["ra"], where["dec"], observations.NSIDE)
        keys = cells if how == "sky" else where["targetid"]
        part = dict(zip(keys.tolist(), where["part"].tolist(), strict=True))
        assert [part[key] for key in keys.tolist()] == where["part"].tolist()
        assert (
            where["part"].tolist()
            == Split(by=how, nside=64).assign(where["targetid"], where["ra"], where["dec"]).tolist()
        )


def test_pairs_by_position_respect_the_radius_and_a_store_is_not_overwritten(tmp_path, files):
    out = tmp_path / "s.lance"
    beside = files.folder / "beside-05.fits"
    assert observations.pair(beside, files.coadd, out, size=64, radius=0.35)["pairs"] == 1
    with pytest.raises(ValueError, match="a survey store is at"):
        observations.pair(beside, files.coadd, out, size=64)
    (tmp_path / ".t.lance.parts" / "images").mkdir(parents=True)  # of a job that was killed
    with pytest.raises(ValueError, match="no pair among 1 images and 10 spectra"):
        observations.pair(beside, files.coadd, tmp_path / "t.lance", size=64, radius=0.25)
    assert [path.name for path in tmp_path.glob("[.st]*")] == ["s.lance"]  # nothing half made


# --- training


def test_a_place_that_is_taken_is_known_before_anything_is_read(tmp_path, files):
    out = tmp_path / "s.lance"
    observations.pair(files.cutouts, files.coadd, out, size=64)
    with pytest.raises(ValueError, match="a survey store is at"):
        observations.pair("nothing*.fits", "nothing*.fits", out)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to folder"):
        observations.pair("nothing*.fits", "nothing*.fits", tmp_path / "file" / "s.lance")


def test_rejects_are_written_where_nothing_is_good(tmp_path, files):
    rejects = tmp_path / "rejects.csv"
    with pytest.raises(ValueError, match="nothing could be read"):
        observations.pair(files.broken, files.coadd, tmp_path / "s.lance", rejects=rejects)
    assert "begins with b'hello'" in rejects.read_text()


def test_a_spectrum_without_a_position_stops_nothing(tmp_path, files):
    """Its fibre has no right ascension; it is named, and the others are paired."""
    with fits.open(files.coadd) as hdus:
        hdus["FIBERMAP"].data["TARGET_RA"][3] = np.nan
        hdus.writeto(tmp_path / "coadd.fits")
    names = tmp_path / "coadd.fits"
    report = observations.pair(files.cutouts, names, tmp_path / "s.lance", size=64)
    assert report["pairs"] == 7
    assert len(report["unplaced_spectra"]) == 1
