"""Processes share rows, for real."""

import os
import time
from functools import partial
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from appulse.evaluate.rows import Rows
from appulse.evaluate.workers import workers


@pytest.fixture
def sharing(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("sharing")


def test_each_row_is_made_once_by_one_of_two_processes_with_half_the_threads(tmp_path, sharing):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with workers(partial(sharing.make, tmp_path), 2):
            sharing.make(tmp_path)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    rows = Rows(tmp_path, sharing.GALAXIES).of([sharing.method()])
    processes, threads, most = zip(*(row.values["process"] for row in rows), strict=True)
    assert len(set(processes)) == 2
    assert os.getpid() in processes
    assert set(threads) == {2}
    assert set(most) == {2}


def test_what_another_process_fails_to_do_is_done_here(tmp_path, sharing, capfd):
    with workers(partial(sharing.make, tmp_path, os.getpid()), 2):
        sharing.make(tmp_path, os.getpid())
    assert len(list(tmp_path.glob("*.json"))) == len(sharing.SEEDS)
    assert "this process can not" in capfd.readouterr().err


def test_others_are_gone_when_this_process_fails():
    def fail():
        with workers(partial(time.sleep, 600), 3):
            assert len(active_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not active_children()


def test_one_process_has_no_others_and_all_threads():
    before = torch.get_num_threads()
    with workers(partial(time.sleep, 600), 1):
        assert not active_children()
        assert torch.get_num_threads() == before
