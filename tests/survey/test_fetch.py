import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from appulse import SurveyStore, observations, read_images, read_spectra
from appulse.survey.cutouts import CutoutService
from appulse.survey.download import Downloader, ServiceError
from appulse.survey.fetch import fetch_files, read_targets
from appulse.survey.rejects import Rejects
from appulse.survey.services import Target
from appulse.survey.sparcl import SpectrumService

ARCSEC = 1 / 3600
TARGETS = [Target(row, f"g{row}", 10.0 * (row + 1), 0.0) for row in range(6)]


@pytest.fixture
def downloader():
    return Downloader(1e6, attempts=3, timeout=0.5, backoff=0.001)


@pytest.fixture
def cutouts(sky):
    return CutoutService(f"{sky.url}/viewer", size=16)


@pytest.fixture
def spectra(sky):
    return SpectrumService(f"{sky.url}/sparc", radius=1.0)


# --- what to fetch


def _csv(path, text):
    path.write_text(text)
    return path


def test_targets_are_named_by_id(tmp_path):
    path = _csv(tmp_path / "a.csv", "name,RA,Dec\nNGC 1,10.5,-3\nJ1.5+2/x,0,90\n")
    rejects = Rejects()
    assert read_targets(path, rejects) == [
        Target(0, "NGC_1", 10.5, -3.0),
        Target(1, "J1_5+2_x", 0.0, 90.0),
    ]
    assert not len(rejects)


def test_targets_without_id_are_named_by_position(tmp_path):
    path = _csv(tmp_path / "a.csv", "ra,dec\n150.119171,2.2\n10,-0.000004\n")
    assert [t.name for t in read_targets(path, Rejects())] == [
        "150_11917+2_20000",
        "10_00000-0_00000",
    ]


def test_rows_that_cannot_be_fetched_are_set_aside(tmp_path):
    path = _csv(tmp_path / "a.csv", "id,ra,dec\na,10,0\nb,,0\nc,400,0\nd,10,-91\na,20,0\ne,5,5\n")
    rejects = Rejects()
    assert [t.row for t in read_targets(path, rejects)] == [0, 5]
    assert [r.row for r in rejects] == [1, 2, 3, 4]
    reasons = [r.reason for r in rejects]
    assert "position is nan, 0.0; expected ra in [-180, 360]" in reasons[0]
    assert reasons[3] == "file name a is that of row 0 already"


def test_missing_numbers_are_no_positions(tmp_path):
    """Also among whole numbers, and names stay whole numbers."""
    rejects = Rejects()
    targets = read_targets(_csv(tmp_path / "a.csv", "id,ra,dec\n7,10,\n,20,5\n9,30,6\n"), rejects)
    assert [(t.name, t.ra) for t in targets] == [("20_00000+5_00000", 20), ("9", 30)]
    assert [reject.row for reject in rejects] == [0]


def test_a_table_without_positions(tmp_path):
    with pytest.raises(ValueError, match="no columns ra, dec; its columns are id, dec"):
        read_targets(_csv(tmp_path / "a.csv", "id,dec\n1,2\n"), Rejects())


# --- cutouts


def _outcomes(service, targets, out, downloader, rejects=None):
    collected = Rejects() if rejects is None else rejects
    return list(fetch_files(service, targets, out, downloader, collected))


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cutouts_are_fetched_and_can_be_read(sky, cutouts, downloader, tmp_path):
    assert _outcomes(cutouts, TARGETS, tmp_path, downloader) == ["fetched"] * 6
    images = read_images(f"{tmp_path}/ls-dr10/*.fits")
    assert images.ids.tolist() == [target.name for target in TARGETS]
    np.testing.assert_allclose(images.ra, [target.ra for target in TARGETS])
    assert (images.flux == 1).all()
    assert "layer=ls-dr10" in sky.asked[0][1]


def test_each_fault_costs_its_galaxy_only(sky, cutouts, downloader, tmp_path):
    faults = ["html", "elsewhere", "empty", "huge", "404", "truncated"]
    sky.faults = {target.ra: [fault] for target, fault in zip(TARGETS, faults, strict=True)}
    rejects = Rejects()
    outcomes = _outcomes(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert outcomes == ["failed"] * 5 + ["fetched"]
    assert _names(tmp_path / "ls-dr10") == ["g5.fits"]
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
    assert _outcomes(cutouts, TARGETS, tmp_path, downloader) == ["fetched"] * 5 + ["there"]
    assert len(sky.asked) == asked + 5


def test_what_is_there_is_kept_if_it_is_what_was_asked_for(sky, cutouts, downloader, tmp_path):
    _outcomes(cutouts, TARGETS[:4], tmp_path, downloader)
    folder = tmp_path / "ls-dr10"
    (folder / "g1.fits").write_bytes((folder / "g1.fits").read_bytes()[:4000])
    (folder / "g2.fits").write_bytes((folder / "g0.fits").read_bytes())
    outcomes = _outcomes(cutouts, TARGETS[:4], tmp_path, downloader)
    assert outcomes == ["there", "fetched", "fetched", "there"]
    assert read_images(f"{folder}/*.fits").ra == pytest.approx([10, 20, 30, 40])
    larger = CutoutService(cutouts.url, size=20)
    assert _outcomes(larger, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    other = CutoutService(cutouts.url, layer="ls-dr9", size=16)
    assert _outcomes(other, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    assert _names(tmp_path) == ["ls-dr10", "ls-dr9"]


def test_a_service_that_is_down_is_left_alone(sky, cutouts, downloader, tmp_path):
    sky.faults = {target.ra: ["500"] * 9 for target in TARGETS}
    rejects = Rejects()
    with pytest.raises(ServiceError, match=r"failed for 5 galaxies in a row, at last with: .*500"):
        _outcomes(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert [reject.row for reject in rejects] == [0, 1, 2, 3, 4]
    assert len(sky.asked) == 5 * 3


def test_a_disk_that_fails_stops_the_run_too(sky, cutouts, downloader, tmp_path):
    (tmp_path / "ls-dr10").write_text("a file where the folder should be")
    rejects = Rejects()
    with pytest.raises(ServiceError, match=r"in a row, at last with: .*File exists"):
        _outcomes(cutouts, TARGETS, tmp_path, downloader, rejects)
    assert len(rejects) == 5


def test_failures_that_are_not_in_a_row(sky, cutouts, downloader, tmp_path):
    sky.faults = {target.ra: ["500"] * 3 for target in TARGETS[:4] + TARGETS[5:]}
    outcomes = _outcomes(cutouts, TARGETS, tmp_path, downloader)
    assert outcomes == ["failed"] * 4 + ["fetched", "failed"]


def test_an_answer_shows_that_the_service_is_there(sky, spectra, downloader, tmp_path):
    """Five failures with galaxies between them that have no spectrum."""
    targets = [Target(row, f"g{row}", 10.0 + row, 0.0) for row in range(15)]
    sky.faults = {target.ra: ["500"] * 3 for target in targets[::3]}
    rejects = Rejects()
    assert _outcomes(spectra, targets, tmp_path, downloader, rejects) == ["failed"] * 15
    assert sum("no spectrum within" in reject.reason for reject in rejects) == 10


# --- spectra


def test_the_nearest_spectrum_is_fetched_and_can_be_read(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("far", 10 + 0.9 * ARCSEC)
    sky.add_spectrum("near", 10 - 0.3 * ARCSEC)
    sky.add_spectrum("corner", 20 + 0.9 * ARCSEC, 0.9 * ARCSEC)  # 1.27 arcsec away
    rejects = Rejects()
    outcomes = _outcomes(spectra, TARGETS[:3], tmp_path, downloader, rejects)
    assert outcomes == ["fetched", "failed", "failed"]
    assert [r.reason for r in rejects] == [f"{spectra.url} has no spectrum within 1.0 arcsec"] * 2
    read = read_spectra(tmp_path / "sparcl" / "g0.parquet")
    assert read.ids.tolist() == ["g0"]
    assert sky.questions[1] == ["near"]
    np.testing.assert_allclose(read.flux, 10 - 0.3 * ARCSEC, rtol=1e-6)
    assert (read.ivar == 4).all()
    assert (read.ra[0], read.dec[0]) == (10 - 0.3 * ARCSEC, 0)
    assert _outcomes(spectra, TARGETS[:1], tmp_path, downloader) == ["there"]


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
    assert _outcomes(spectra, TARGETS[:1], tmp_path, downloader) == ["fetched"]
    read = read_spectra(tmp_path / "sparcl" / "g0.parquet")
    assert np.flatnonzero(read.mask[0]).tolist() == bad


def test_a_spectrum_of_another_place_is_not_kept(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("x", 10.0)
    _outcomes(spectra, TARGETS[:1], tmp_path, downloader)
    (tmp_path / "sparcl" / "g0.parquet").rename(tmp_path / "sparcl" / "g1.parquet")
    assert _outcomes(spectra, TARGETS[:2], tmp_path, downloader) == ["fetched", "failed"]


def test_questions_are_asked_again(sky, spectra, downloader, tmp_path):
    sky.add_spectrum("x", 10.0)
    sky.faults = {10.0: ["500", "truncated", "", "503", "hang"]}
    assert _outcomes(spectra, TARGETS[:1], tmp_path, downloader) == ["fetched"]
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
    assert _outcomes(spectra, [Target(0, "g", *target)], tmp_path, downloader) == ["fetched"]


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
    assert _outcomes(spectra, TARGETS[:1], tmp_path, downloader, rejects) == ["failed"]
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
    assert _outcomes(spectra, TARGETS[:1], tmp_path, downloader, rejects) == ["failed"]
    assert reason in next(iter(rejects)).reason


# --- the command


def _command(sky, table, out, *more):
    urls = ("--cutout-url", f"{sky.url}/viewer", "--spectrum-url", f"{sky.url}/sparc")
    options = ("--rate", "1000", "--size", "16", "--json", *urls, *more)
    return [sys.executable, "-m", "appulse", "fetch", str(table), "--out", str(out), *options]


def test_what_is_fetched_can_be_paired(sky, tmp_path):
    table = _csv(tmp_path / "a.csv", "id,ra,dec\na,10,0\nb,20,0\nc,30,0\n")
    sky.add_spectrum("x", 10.0)
    sky.add_spectrum("y", 20.0)
    out = tmp_path / "out"
    report = observations.fetch(
        *(table, out),
        size=16,
        rate=1000.0,
        cutout_url=f"{sky.url}/viewer",
        spectrum_url=f"{sky.url}/sparc",
    )
    assert report["ls-dr10"] == {"fetched": 3}
    files = f"{out}/ls-dr10/*.fits", f"{out}/sparcl/*.parquet"
    paired = observations.pair(*files, tmp_path / "s.lance", by="id", size=16)
    assert paired["pairs"] == 2
    assert paired["unmatched_images"] == ["c"]
    made = SurveyStore.open(tmp_path / "s.lance").read()
    np.testing.assert_allclose(made.spectra.flux[:, 0], [10, 20])


@pytest.mark.parametrize(("kept", "folder"), [("images", "ls-dr10"), ("spectra", "sparcl")])
def test_one_of_both_is_fetched(sky, tmp_path, kept, folder):
    sky.add_spectrum("x", 10.0)
    wanted = {"images": kept == "images", "spectra": kept == "spectra"}
    report = observations.fetch(
        _csv(tmp_path / "a.csv", "ra,dec\n10,0\n"),
        tmp_path / "out",
        **wanted,
        size=16,
        rate=1000.0,
        cutout_url=f"{sky.url}/viewer",
        spectrum_url=f"{sky.url}/sparc",
        rejects=tmp_path / "bad.csv",
    )
    assert report == {folder: {"fetched": 1}, "rejected": []}
    assert _names(tmp_path / "out") == [folder]
    assert (tmp_path / "bad.csv").read_text() == "file,row,reason\n"


def test_a_killed_run_goes_on_where_it_was(sky, tmp_path):
    rows = "\n".join(f"g{i},{10 * (i + 1)},0" for i in range(4))
    table = _csv(tmp_path / "a.csv", f"id,ra,dec\n{rows}\n")
    for i in range(3):
        sky.add_spectrum(f"s{i}", 10.0 * (i + 1))
    out, sky.faults = tmp_path / "out", {30.0: ["hang"]}
    running = subprocess.Popen(_command(sky, table, out), env={**os.environ, "PYTHONPATH": "src"})
    assert sky.hung.wait(60)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert _names(out / "ls-dr10") == ["g0.fits", "g1.fits"]
    sky.asked.clear()
    done = subprocess.run(_command(sky, table, out), capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["ls-dr10"] == {"there": 2, "fetched": 2}
    assert report["sparcl"] == {"fetched": 3, "failed": 1}
    assert [reject["row"] for reject in report["rejected"]] == [3]
    assert "no spectrum within 1.0 arcsec" in (out / "rejects.csv").read_text()
    assert len([path for _, path in sky.asked if "fits-cutout" in path]) == 2
    assert b"fetch ls-dr10" in done.stderr
    assert _names(out / "ls-dr10") == [f"g{i}.fits" for i in range(4)]
    assert _names(out / "sparcl") == [f"g{i}.parquet" for i in range(3)]
