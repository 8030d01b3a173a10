"""Processes share rows, for real."""

import os
import time
from functools import partial

import numpy as np
import pytest
import torch

from appulse.evaluate.protocol import Predictions
from appulse.evaluate.rows import Method, Rows
from appulse.evaluate.side_by_side import side_by_side

GALAXIES = {"survey": {"rows": 3}}


def told(failing, seed):
    """Says which process it was, and with how many threads; one process fails."""
    time.sleep(0.1)
    if failing is not None and os.getpid() != failing:
        raise RuntimeError("this process can not")
    values = {"process": np.array([os.getpid(), torch.get_num_threads()])}
    return [Predictions("m", "image", values, 1)]


def make(folder, failing=None):
    """Rows of twelve seeds, once two processes are here."""
    (folder / f"{os.getpid()}.here").touch()
    while len(list(folder.glob("*.here"))) < 2:
        time.sleep(0.01)
    Rows(folder, GALAXIES).make([Method("m", partial(told, failing), seeds=range(12))])


def test_each_row_is_made_once_by_one_of_two_processes_with_half_the_threads(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with side_by_side(partial(make, tmp_path), 2):
            make(tmp_path)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    rows = Rows(tmp_path, GALAXIES).of([Method("m", partial(told, None), seeds=range(12))])
    processes, threads = zip(*(row.values["process"] for row in rows), strict=True)
    assert len(set(processes)) == 2
    assert os.getpid() in processes
    assert set(threads) == {2}


def test_what_another_process_fails_to_do_is_done_here(tmp_path, capfd):
    with side_by_side(partial(make, tmp_path, os.getpid()), 2):
        make(tmp_path, os.getpid())
    assert len(list(tmp_path.glob("*.json"))) == 12
    assert "this process can not" in capfd.readouterr().err


def test_others_are_gone_when_this_process_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), side_by_side(partial(time.sleep, 600), 3):
        raise KeyboardInterrupt


def test_one_process_starts_no_other(tmp_path):
    with side_by_side(partial(pytest.fail, "started"), 1):
        pass
