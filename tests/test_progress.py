import numpy as np
import pytest

from appulse.progress import track


def test_batches_pass_through_and_rows_are_counted_on_stderr(capsys):
    batches = [np.arange(3), np.arange(4), np.arange(3)]
    passed = list(track(iter(batches), "reading galaxies", total=15, done=5))
    assert all(one is other for one, other in zip(passed, batches, strict=True))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading galaxies" in shown.err
    assert "15/15" in shown.err


def test_batches_are_read_as_they_are_needed():
    def endless():
        while True:
            yield [0]

    batches = track(endless(), "endless", total=10)
    assert next(batches) == [0]
    batches.close()


def test_a_failure_comes_through():
    def broken():
        yield [0]
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(track(broken(), "broken", total=2))
