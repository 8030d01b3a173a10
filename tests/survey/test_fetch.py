import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from appulse import SurveyStore, observations
from appulse.survey.fetch import read_targets
from appulse.survey.rejects import Rejects
from appulse.survey.services import Target

from .conftest import names

# --- what to fetch


def csv(path, text):
    path.write_text(text)
    return path


def test_targets_are_named_by_id(tmp_path):
    path = csv(tmp_path / "a.csv", "name,RA,Dec\nNGC 1,10.5,-3\nJ1.5+2/x,0,90\n")
    rejects = Rejects()
    assert read_targets(path, rejects) == [
        Target(0, "NGC_1", 10.5, -3.0),
        Target(1, "J1_5+2_x", 0.0, 90.0),
    ]
    assert not len(rejects)


def test_targets_without_id_are_named_by_position(tmp_path):
    path = csv(tmp_path / "a.csv", "ra,dec\n150.119171,2.2\n10,-0.000004\n")
    assert [t.name for t in read_targets(path, Rejects())] == [
        "150_11917+2_20000",
        "10_00000-0_00000",
    ]


def test_rows_that_cannot_be_fetched_are_set_aside(tmp_path):
    path = csv(tmp_path / "a.csv", "id,ra,dec\na,10,0\nb,,0\nc,400,0\nd,10,-91\na,20,0\ne,5,5\n")
    rejects = Rejects()
    assert [t.row for t in read_targets(path, rejects)] == [0, 5]
    assert [r.row for r in rejects] == [1, 2, 3, 4]
    reasons = [r.reason for r in rejects]
    assert "position is nan, 0.0; expected ra in [-180, 360]" in reasons[0]
    assert reasons[3] == "file name a is that of row 0 already"


def test_missing_numbers_are_no_positions(tmp_path):
    """Also among whole numbers, and names stay whole numbers."""
    rejects = Rejects()
    targets = read_targets(csv(tmp_path / "a.csv", "id,ra,dec\n7,10,\n,20,5\n9,30,6\n"), rejects)
    assert [(t.name, t.ra) for t in targets] == [("20_00000+5_00000", 20), ("9", 30)]
    assert [reject.row for reject in rejects] == [0]


def test_a_table_without_positions(tmp_path):
    with pytest.raises(ValueError, match="no columns ra, dec; its columns are id, dec"):
        read_targets(csv(tmp_path / "a.csv", "id,dec\n1,2\n"), Rejects())


# --- the command


def command(sky, table, out, *more):
    urls = ("--cutout-url", f"{sky.url}/viewer", "--spectrum-url", f"{sky.url}/sparc")
    options = ("--rate", "1000", "--size", "16", "--json", *urls, *more)
    return [sys.executable, "-m", "appulse", "fetch", str(table), "--out", str(out), *options]


def test_what_is_fetched_can_be_paired(sky, tmp_path):
    table = csv(tmp_path / "a.csv", "id,ra,dec\na,10,0\nb,20,0\nc,30,0\n")
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
        csv(tmp_path / "a.csv", "ra,dec\n10,0\n"),
        tmp_path / "out",
        **wanted,
        size=16,
        rate=1000.0,
        cutout_url=f"{sky.url}/viewer",
        spectrum_url=f"{sky.url}/sparc",
        rejects=tmp_path / "bad.csv",
    )
    assert report == {folder: {"fetched": 1}, "rejected": []}
    assert names(tmp_path / "out") == [folder]
    assert (tmp_path / "bad.csv").read_text() == "file,row,reason\n"


def test_a_killed_run_goes_on_where_it_was(sky, tmp_path):
    rows = "\n".join(f"g{i},{10 * (i + 1)},0" for i in range(4))
    table = csv(tmp_path / "a.csv", f"id,ra,dec\n{rows}\n")
    for i in range(3):
        sky.add_spectrum(f"s{i}", 10.0 * (i + 1))
    out, sky.faults = tmp_path / "out", {30.0: ["hang"]}
    running = subprocess.Popen(command(sky, table, out), env={**os.environ, "PYTHONPATH": "src"})
    assert sky.hung.wait(60)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert names(out / "ls-dr10") == ["g0.fits", "g1.fits"]
    sky.asked.clear()
    done = subprocess.run(command(sky, table, out), capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["ls-dr10"] == {"there": 2, "fetched": 2}
    assert report["sparcl"] == {"fetched": 3, "failed": 1}
    assert [reject["row"] for reject in report["rejected"]] == [3]
    assert "no spectrum within 1.0 arcsec" in (out / "rejects.csv").read_text()
    assert len([path for _, path in sky.asked if "fits-cutout" in path]) == 2
    assert b"fetch ls-dr10" in done.stderr
    assert names(out / "ls-dr10") == [f"g{i}.fits" for i in range(4)]
    assert names(out / "sparcl") == [f"g{i}.parquet" for i in range(3)]
