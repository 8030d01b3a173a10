import numpy as np
import pytest

from appulse.evaluate.results import Result, known, read_results, write_results

RESULT = Result("a", "image → spectrum", "partner", "top-1", 0.5, 0.4, 0.6, 10, 20, False, None)


def test_a_file_gives_back_the_results(tmp_path):
    write_results(tmp_path / "results.json", [RESULT, RESULT])
    assert read_results(tmp_path / "results.json") == [RESULT, RESULT]


def test_nan_is_never_written(tmp_path):
    bad = Result("a", "image", "age", "R²", float("nan"), 0.4, 0.6, 10, 20, False)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "results.json", [bad])
    assert not list(tmp_path.iterdir())


def test_known_labels():
    assert known(np.array([1.0, np.nan, np.inf])).tolist() == [True, False, False]
    assert known(np.array(["spiral", ""])).tolist() == [True, False]
