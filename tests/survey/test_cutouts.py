"""Images from the Legacy Surveys' cutout service."""

import numpy as np
import pytest

from appulse import read_images
from appulse.survey.cutouts import CutoutService
from appulse.survey.download import ServiceError
from appulse.survey.rejects import Rejects

from .conftest import TARGETS, fetched, names


@pytest.fixture
def cutouts(sky):
    return CutoutService(f"{sky.url}/viewer", size=16)


def test_cutouts_are_fetched_and_can_be_read(sky, cutouts, downloader, tmp_path):
    assert fetched(cutouts, TARGETS, tmp_path, downloader) == ["fetched"] * 6
    images = read_images(f"{tmp_path}/ls-dr10/*.fits")
    assert images.ids.tolist() == [target.name for target in TARGETS]
    np.testing.assert_allclose(images.ra, [target.ra for target in TARGETS])
    assert (images.flux == 1).all()
    assert "layer=ls-dr10" in sky.asked[0][1]


def test_each_fault_costs_its_galaxy_only(sky, cutouts, downloader, tmp_path):
    faults = ["html", "elsewhere", "empty", "huge", "404", "truncated"]
    sky.faults = {target.ra: [fault] for target, fault in zip(TARGETS, faults, strict=True)}
    rejects = Rejects()
    outcomes = fetched(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert outcomes == ["failed"] * 5 + ["fetched"]
    assert names(tmp_path / "ls-dr10") == ["g5.fits"]
    assert [reject.row for reject in rejects] == [0, 1, 2, 3, 4]
    assert next(iter(rejects)).file == str(tmp_path / "ls-dr10" / "g0.fits")
    for reject, reason in zip(
        rejects,
        [
            "file begins with b'<!DOCTYPE html><'; expected FITS",
            "its position is 36.00 arcsec from the one asked for",
            "more than half of their image pixels masked",
            "sends more than 1,054,720 bytes",
            "answered 404",
        ],
        strict=True,
    ):
        assert reason in reject.reason
    # the next run asks for those alone
    asked = len(sky.asked)
    assert fetched(cutouts, TARGETS, tmp_path, downloader) == ["fetched"] * 5 + ["there"]
    assert len(sky.asked) == asked + 5


def test_what_is_there_is_kept_if_it_is_what_was_asked_for(sky, cutouts, downloader, tmp_path):
    fetched(cutouts, TARGETS[:4], tmp_path, downloader)
    folder = tmp_path / "ls-dr10"
    (folder / "g1.fits").write_bytes((folder / "g1.fits").read_bytes()[:4000])
    (folder / "g2.fits").write_bytes((folder / "g0.fits").read_bytes())
    outcomes = fetched(cutouts, TARGETS[:4], tmp_path, downloader)
    assert outcomes == ["there", "fetched", "fetched", "there"]
    assert read_images(f"{folder}/*.fits").ra == pytest.approx([10, 20, 30, 40])
    larger = CutoutService(cutouts.url, size=20)
    assert fetched(larger, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    other = CutoutService(cutouts.url, layer="ls-dr9", size=16)
    assert fetched(other, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    assert names(tmp_path) == ["ls-dr10", "ls-dr9"]


def test_a_service_that_is_down_is_left_alone(sky, cutouts, downloader, tmp_path):
    sky.faults = {target.ra: ["500"] * 9 for target in TARGETS}
    rejects = Rejects()
    with pytest.raises(ServiceError, match=r"failed for 5 galaxies in a row, at last with: .*500"):
        fetched(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert [reject.row for reject in rejects] == [0, 1, 2, 3, 4]
    assert len(sky.asked) == 5 * 3


def test_a_disk_that_fails_stops_the_run_too(sky, cutouts, downloader, tmp_path):
    (tmp_path / "ls-dr10").write_text("a file where the folder should be")
    rejects = Rejects()
    with pytest.raises(ServiceError, match=r"in a row, at last with: .*File exists"):
        fetched(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert len(rejects) == 5


def test_failures_that_are_not_in_a_row(sky, cutouts, downloader, tmp_path):
    sky.faults = {target.ra: ["500"] * 3 for target in TARGETS[:4] + TARGETS[5:]}
    outcomes = fetched(cutouts, TARGETS, tmp_path, downloader)
    assert outcomes == ["failed"] * 4 + ["fetched", "failed"]
