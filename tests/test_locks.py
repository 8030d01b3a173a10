"""Between processes, for real."""

import errno
import gc
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import filelock
import pytest

from appulse.locks import claimed, hold

HOLD = """
import sys
from pathlib import Path
from appulse.locks import claimed, hold
folder = Path(sys.argv[1])
lock = hold(folder)
with claimed(folder / "row.json", wait=False) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
    (folder / "row.json").write_text("theirs")
"""


@pytest.fixture
def another(tmp_path):
    """Another process that holds the folder and has claimed row.json, until it gets a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_holds_is_refused(tmp_path, another):
    with pytest.raises(ValueError, match=f"another process is at work in {tmp_path}; wait"):
        hold(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path, another):
    another.kill()
    another.wait()
    assert hold(tmp_path).is_locked
    with claimed(tmp_path / "row.json", wait=False) as mine:
        assert mine


def test_a_process_holds_a_folder_as_often_as_it_likes_in_any_thread(tmp_path):
    first = hold(tmp_path)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(hold, tmp_path).result()
    path = first.lock_file
    del first
    gc.collect()
    assert not free(path)
    del second
    gc.collect()
    assert free(path)


def free(path):
    """Whether somebody else could lock it."""
    lock = filelock.FileLock(path)
    try:
        with lock.acquire(blocking=False):
            return True
    except filelock.Timeout:
        return False


def test_a_claim_is_one_process_s_until_it_ends(tmp_path, another):
    path = tmp_path / "row.json"
    with claimed(path, wait=False) as mine:
        assert not mine
    another.stdin.write("go on\n")
    another.stdin.flush()
    with claimed(path, wait=True) as mine:
        assert mine
        assert path.read_text() == "theirs"
    another.wait()
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "row.json"}


def test_claims_are_exclusive_however_many_want_one(tmp_path):
    """Though the file that they lock is deleted while others wait for it."""
    inside, most = [0], [0]

    def work(_):
        with claimed(tmp_path / "row", wait=True) as mine:
            assert mine
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert most == [1]
    assert not list(tmp_path.iterdir())


def test_a_disk_without_locks_grants_all(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    hold(tmp_path)
    with claimed(tmp_path / "row.json", wait=False) as mine:
        assert mine
