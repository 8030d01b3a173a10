"""Processes share rows, for real."""

import os
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from appulse.evaluate.rows import Rows
from appulse.evaluate.side_by_side import side_by_side


@pytest.fixture
def sharing(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("sharing")


def test_each_row_is_made_once_by_one_of_two_processes_with_half_the_threads(tmp_path, sharing):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with side_by_side(partial(sharing.make, tmp_path), 2):
            sharing.make(tmp_path)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    rows = Rows(tmp_path, sharing.GALAXIES).of([sharing.method()])
    processes, threads = zip(*(row.values["process"] for row in rows), strict=True)
    assert len(set(processes)) == 2
    assert os.getpid() in processes
    assert set(threads) == {2}


def test_what_another_process_fails_to_do_is_done_here(tmp_path, sharing, capfd):
    with side_by_side(partial(sharing.make, tmp_path, os.getpid()), 2):
        sharing.make(tmp_path, os.getpid())
    assert len(list(tmp_path.glob("*.json"))) == len(sharing.SEEDS)
    assert "this process can not" in capfd.readouterr().err


def test_others_are_gone_when_this_process_fails():
    with pytest.raises(KeyboardInterrupt), side_by_side(partial(time.sleep, 600), 3):
        raise KeyboardInterrupt


def test_one_process_starts_no_other():
    with side_by_side(partial(pytest.fail, "started"), 1):
        pass
