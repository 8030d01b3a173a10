"""Spectra from SPARCL."""

import numpy as np
import pytest

from appulse import read_spectra
from appulse.survey.rejects import Rejects
from appulse.survey.services import Target
from appulse.survey.sparcl import SpectrumService

from .conftest import ARCSEC, TARGETS, fetched


@pytest.fixture
def spectra(sky):
    return SpectrumService(f"{sky.url}/sparc", radius=1.0)


def test_an_answer_shows_that_the_service_is_there(sky, spectra, downloader, tmp_path):
    """Five failures with galaxies between them that have no spectrum."""
    targets = [Target(row, f"g{row}", 10.0 + row, 0.0) for row in range(15)]
    sky.faults = {target.ra: ["500"] * 3 for target in targets[::3]}
    rejects = Rejects()
    assert fetched(spectra, targets, tmp_path, downloader, rejects) == ["failed"] * 15
    assert sum("no spectrum within" in reject.reason for reject in rejects) == 10


def test_the_nearest_spectrum_is_fetched_and_can_be_read(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("far", 10 + 0.9 * ARCSEC)
    sky.add_spectrum("near", 10 - 0.3 * ARCSEC)
    sky.add_spectrum("corner", 20 + 0.9 * ARCSEC, 0.9 * ARCSEC)  # 1.27 arcsec away
    rejects = Rejects()
    outcomes = fetched(spectra, TARGETS[:3], tmp_path, downloader, rejects)
    assert outcomes == ["fetched", "failed", "failed"]
    assert [r.reason for r in rejects] == [f"{spectra.url} has no spectrum within 1.0 arcsec"] * 2
    read = read_spectra(tmp_path / "sparcl" / "g0.parquet")
    assert read.ids.tolist() == ["g0"]
    assert sky.questions[1] == ["near"]
    np.testing.assert_allclose(read.flux, 10 - 0.3 * ARCSEC, rtol=1e-6)
    assert (read.ivar == 4).all()
    assert (read.ra[0], read.dec[0]) == (10 - 0.3 * ARCSEC, 0)
    assert fetched(spectra, TARGETS[:1], tmp_path, downloader) == ["there"]


@pytest.mark.parametrize(
    ("release", "bad"), [("DESI-DR1", [1, 2, 3]), ("SDSS-DR16", [2]), ("BOSS-DR16", [2])]
)
def test_pixels_that_the_survey_spoilt_stay_masked(
    release, bad, sky, spectra, downloader, tmp_path
):
    """Of an and_mask only some bits say that; SKYMASK's 1 << 22 is NOSKY."""
    mask = np.zeros(7781, int)
    mask[[1, 2, 3]] = 1, 1 << 22, 1 << 28
    sky.add_spectrum("x", 10.0, data_release=release, mask=mask.tolist())
    assert fetched(spectra, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    read = read_spectra(tmp_path / "sparcl" / "g0.parquet")
    assert np.flatnonzero(read.mask[0]).tolist() == bad


def test_a_spectrum_of_another_place_is_not_kept(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("x", 10.0)
    fetched(spectra, TARGETS[:1], tmp_path, downloader)
    (tmp_path / "sparcl" / "g0.parquet").rename(tmp_path / "sparcl" / "g1.parquet")
    assert fetched(spectra, TARGETS[:2], tmp_path, downloader) == ["fetched", "failed"]


def test_questions_are_asked_again(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("x", 10.0)
    sky.faults = {10.0: ["500", "truncated", "", "503", "hang"]}
    assert fetched(spectra, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    assert len(sky.asked) == 6


@pytest.mark.parametrize(
    ("target", "spectrum"),
    [
        ((0.1 * ARCSEC, 0.0), (360 - 0.5 * ARCSEC, 0.0)),
        ((360 - 0.1 * ARCSEC, 0.0), (0.5 * ARCSEC, 0.0)),
        ((10.0, 60.0), (10 + 1.8 * ARCSEC, 60.0)),  # 0.9 arcsec, as cos 60° is 1/2
        ((10.0, 90.0), (200.0, 90 - 0.9 * ARCSEC)),
        ((10.0, -90.0), (200.0, -90 + 0.9 * ARCSEC)),
    ],
)
def test_cones_at_the_edges_of_the_sky(sky, spectra, downloader, tmp_path, target, spectrum):
    sky.add_spectrum("x", *spectrum)
    assert fetched(spectra, [Target(0, "g", *target)], tmp_path, downloader) == ["fetched"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"flux": [1.0, 2.0]}, "expected"),
        ({"ivar": [0.0] * 7781}, "more than half"),
        ({"flux": "one"}, "Arrow"),
    ],
)
def test_a_spectrum_that_cannot_be_read_gets_no_file(
    sky, spectra, downloader, tmp_path, spoil, reason
):
    sky.add_spectrum("x", 10.0, **spoil)
    rejects = Rejects()
    assert fetched(spectra, TARGETS[:1], tmp_path, downloader, rejects) == ["failed"]
    assert reason in next(iter(rejects)).reason
    assert not any(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>", "answered b'<html>'; expected JSON"),
        (b'{"detail": "no"}', "expected a list of records"),
        (b"[1, 2]", "expected a list of records"),
        (b'[{}, {"sparcl_id": "x", "ra": 10.0, "dec": 0.0}]', "answered 1 records of ['dec', 'ra'"),
        (b"[{}]", "has no spectrum within"),
    ],
)
def test_answers_of_another_kind(sky, spectra, downloader, tmp_path, monkeypatch, answer, reason):

    def do_post(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler._send(200, answer)

    monkeypatch.setattr(sky.RequestHandlerClass, "do_POST", do_post)
    rejects = Rejects()
    assert fetched(spectra, TARGETS[:1], tmp_path, downloader, rejects) == ["failed"]
    assert reason in next(iter(rejects)).reason
