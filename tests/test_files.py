import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appulse.files import atomic_path, expand_paths


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.fits", "a.fits", "c.txt", "deep/d.fits", "[1].fits"):
        (tmp_path / name).touch()
    return tmp_path


def test_patterns_expand_in_order(folder):
    names = [path.name for path in expand_paths([folder / "c.txt", f"{folder}/[ab].fits"])]
    assert names == ["c.txt", "a.fits", "b.fits"]


def test_two_stars_reach_into_folders(folder):
    assert folder / "deep" / "d.fits" in expand_paths(f"{folder}/**/*.fits")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    assert expand_paths(folder / "[1].fits") == [folder / "[1].fits"]


def test_home_is_understood(monkeypatch, folder):
    monkeypatch.setenv("HOME", str(folder))
    assert expand_paths("~/c.txt") == [folder / "c.txt"]


@pytest.mark.parametrize("paths", [[], "nowhere/*.fits"])
def test_nothing_to_read_is_an_error(paths):
    with pytest.raises(FileNotFoundError, match=r"no paths|nowhere"):
        expand_paths(paths)


def test_folders_do_not_match_a_pattern(folder):
    assert folder / "deep" not in expand_paths(f"{folder}/*")


def test_a_file_appears_when_whole(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with atomic_path(target) as path:
        path.write_text("half")
        assert not target.exists()
        assert path.suffix == ".csv"
        path.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def _fail_halfway(target: Path) -> None:
    with atomic_path(target) as path:
        path.write_text("half")
        raise KeyError("stop")


def test_a_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(KeyError):
        _fail_halfway(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "table.csv"):
        pass


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    script = (
        "import os, signal, sys; from appulse.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, target], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
