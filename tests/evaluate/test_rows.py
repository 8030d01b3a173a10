import json
from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluate import rows
from appulse.evaluate.protocol import Predictions
from appulse.evaluate.rows import Method, Rows, read_row, write_row

GALAXIES = {"survey": {"rows": 3}}


def said(seed=0):
    return Predictions(
        "m",
        "image",
        {
            "redshift": np.array([0.123456789, np.nan, 0.3]) + seed,
            "morphology": np.array(["spiral", "", "é"]),
            "partner": np.array([1, 20, 3]),
        },
        n_train=7,
        seconds=1.5,
        seed=seed,
    )


def test_a_row_comes_back_to_seven_digits(tmp_path):
    write_row(tmp_path / "row.json", [said(), said(1)])
    first, second = read_row(tmp_path / "row.json")
    assert (first.method, first.modality, first.n_train, first.seconds) == ("m", "image", 7, 1.5)
    assert second.seed == 1
    np.testing.assert_allclose(first.values["redshift"], said().values["redshift"], rtol=1e-6)
    for name in ("morphology", "partner"):
        assert first.values[name].tolist() == said().values[name].tolist()
        assert first.values[name].dtype.kind == said().values[name].dtype.kind


def made(folder, method, galaxies=GALAXIES):
    rows = Rows(folder, galaxies)
    rows.make([method])
    return list(rows.of([method]))


def test_a_row_says_which_code_made_it(tmp_path, monkeypatch):
    """And another release of appulse makes its own."""
    calls = []
    monkeypatch.setattr(rows, "commit", lambda: "abc1234")
    (first, *_) = made(tmp_path, counted(calls))
    assert first.commit == "abc1234"
    monkeypatch.setattr(rows, "version", lambda name: "0.0.1")
    made(tmp_path, counted(calls))
    assert calls == [0, 1, 2] * 2


def counted(calls, **settings):
    def run(seed):
        calls.append(seed)
        return [said(seed)]

    return Method("a method", run, settings, seeds=(0, 1, 2))


def test_what_is_there_is_not_done_again(tmp_path):
    """Nor after an interrupt: the row that lacks is the first to be done."""
    calls = []

    def run(seed):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [said(seed)]

    method = Method("a method", run, seeds=(0, 1, 2))
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, method)
    assert [p.seed for p in made(tmp_path, method)] == [0, 1, 2]
    assert calls == [0, 1, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3


def test_other_settings_or_galaxies_are_other_rows(tmp_path):
    calls = []
    for galaxies, settings in (
        (GALAXIES, {}),
        (GALAXIES, {"steps": 2}),
        ({"survey": {"rows": 4}}, {}),
        (GALAXIES, {}),
    ):
        made(tmp_path, counted(calls, **settings), galaxies)
    assert calls == [0, 1, 2] * 3
    names = {path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()}
    assert names == {f"a-method-{seed}" for seed in range(3)}


def test_rows_are_json_without_nan(tmp_path):
    write_row(tmp_path / "row.json", [replace(said(), values={"age": np.array([np.inf, 1.0])})])
    (entry,) = json.loads((tmp_path / "row.json").read_text())
    assert entry["values"]["age"] == [None, 1.0]
