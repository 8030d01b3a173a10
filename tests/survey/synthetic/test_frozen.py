import json
from pathlib import Path

import numpy as np
import pytest

from appulse.provenance import provenance
from appulse.survey.synthetic.block import BLOCK
from appulse.survey.synthetic.frozen import FROZEN, fingerprint, statistics
from appulse.survey.synthetic.labels import RELEASE
from appulse.survey.synthetic.simulate import simulate

PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "survey.json"


@pytest.fixture(scope="module")
def record():
    return json.loads(PATH.read_text())


def machine(about):
    """What decides how sums are rounded: processor, torch, numpy."""
    return about["processor"], *about["versions"].split(", ")[1:3]


@pytest.mark.parametrize("name", FROZEN)
def test_the_first_block_is_the_frozen_one(record, name):
    """Bit for bit on the machine that froze it, to 1e-4 on any other."""
    survey, frozen = FROZEN[name], record["surveys"][name]
    assert (survey.n, survey.seed, survey.size) == tuple(frozen[k] for k in ("n", "seed", "size"))
    block = next(iter(survey.blocks(n=BLOCK)))
    found = statistics(block)
    assert set(found) == set(frozen["first block"])
    for key, value in frozen["first block"].items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    if machine(provenance()) == machine(record):
        assert fingerprint([block]) == frozen["first block sha256"]


def test_the_record_is_of_this_version(record):
    assert record["version"] == RELEASE
    assert set(record["surveys"]) == set(FROZEN)


def test_any_change_changes_the_fingerprint():
    survey = simulate(3, seed=1, size=64)
    before = fingerprint([survey])
    assert fingerprint([survey[:2], survey[2:]]) != before  # blocks are part of the order
    survey.images.flux[1, 2, 30, 30] += np.float32(1e-6)
    assert fingerprint([survey]) != before
    survey.images.flux[:] += 1
    assert statistics(survey)["image g"] > 0.9
