import time
from collections import defaultdict

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from appulse.training import tensorboard
from appulse.training.run import RunFolder, read_metrics


def scalars(path):
    """Step and value of each curve, as TensorBoard reads them."""
    log = EventAccumulator(str(path / "tensorboard"), purge_orphaned_data=True).Reload()
    return {n: [(e.step, e.value) for e in log.Scalars(n)] for n in log.Tags()["scalars"]}


def logged(path):
    curves = defaultdict(list)
    for line in read_metrics(path):
        for name in line.keys() - {"step"}:
            curves[name].append((line["step"], pytest.approx(line[name], rel=1e-6)))
    return curves


def test_tensorboard_shows_what_is_logged_and_nothing_that_was_done_again(tmp_path):
    folder = RunFolder(tmp_path, {})
    for step in (1, 2, 3, 4):
        folder.log(step, loss=1 / step, gradient=3.0)
        if step == 2:
            folder.log(step, score=0.5)
            folder.save({}, step)
    folder.save({}, 2)  # also makes what is logged visible
    time.sleep(1 - time.time() % 1)  # TensorBoard orders its files by the second in their names
    again = RunFolder(tmp_path, {})
    assert again.load() == ({}, 2)
    for step in (3, 4, 5):
        again.log(step, loss=2 / step, gradient=4.0)
    again.finish({})
    assert len(read_metrics(tmp_path)) == 6
    assert scalars(tmp_path) == logged(tmp_path)


def test_without_the_package_a_run_is_logged_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    folder = RunFolder(tmp_path, {})
    folder.log(1, loss=1.0)
    folder.finish({})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
    assert not (tmp_path / "tensorboard").exists()
