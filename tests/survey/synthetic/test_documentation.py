"""docs/survey.md is true: each constant that it names exists and has the value that it states."""

import ast
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "survey.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.count("|") == 5 and not line.startswith(("| choice", "|---"))
]


def found(name):
    module, _, attribute = name.partition(".")
    return getattr(import_module(f"appulse.survey.synthetic.{module}"), attribute)


def plain(value):
    """Tuples for arrays, so that nested numbers compare."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return tuple(map(plain, value)) if isinstance(value, (tuple, list, np.ndarray)) else value


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_constants_have_the_values_stated(row):
    _, value, constants, source = row
    names = re.findall(r"`([\w.]+)`", constants)
    values = [found(name) for name in names]
    assert source
    if value:
        stated = ast.literal_eval(value)
        assert plain(values if len(values) > 1 else values[0]) == plain(stated)


def test_the_table_covers_the_modules():
    named = {name.partition(".")[0] for row in ROWS for name in re.findall(r"`(\w+\.\w+)`", row[2])}
    assert named >= {"population", "gas", "dust", "morphology", "spectra", "camera", "spectrograph"}
    assert named >= {"catalogue", "milkyway", "quasars", "points", "targets", "ssp", "continuum"}
    assert len(ROWS) > 60
