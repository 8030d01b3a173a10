"""What is added to a store, and what stays if that ends too early."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appulse.survey import store_append
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey

from .random_galaxies import assert_same, galaxies


@pytest.fixture
def store(tmp_path: Path) -> SurveyStore:
    return SurveyStore.create(tmp_path / "s.lance", (galaxies(i, i + 10) for i in range(0, 60, 10)))


@pytest.fixture
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_append, "COMMIT_ROWS", 10)
    monkeypatch.setattr(store_append, "PIECE_ROWS", 5)


def test_new_columns_and_absent_ones_are_filled(store: SurveyStore):
    store.append([galaxies(60, 62, zwarn=np.array([7, 8]), survey=np.array(["a", "b"]))])
    store.append([galaxies(62, 63)])
    store.append([galaxies(63, 64, flag=np.array([True]))])
    columns = SurveyStore.open(store.path).columns(["zwarn", "survey", "flag"])
    assert columns["zwarn"].tolist() == [-1] * 60 + [7, 8, -1, -1]
    assert columns["survey"].tolist() == [""] * 60 + ["a", "b", "", ""]
    assert columns["flag"].tolist() == [False] * 63 + [True]
    assert store.rows(where="flag IS NULL").tolist() == list(range(63))


# --- duplicates


def test_duplicates_are_left_out_and_named(store: SurveyStore):
    again = galaxies(50, 62)
    renamed = np.array([*again.ids[:11], "galaxy-59-by-another-name"])
    ra, dec = again.images.ra.copy(), again.images.dec.copy()
    ra[11], dec[11] = ra[9], dec[9] + 0.9 / 3600
    images = replace(again.images, ids=renamed, ra=ra, dec=dec)
    found = store.append([Survey(images, replace(again.spectra, ids=renamed), again.columns)])
    assert [(row.targetid, row.reason) for row in found] == [
        *((f"galaxy-{i}", "targetid") for i in range(50, 60)),
        ("galaxy-59-by-another-name", "position"),
    ]
    assert store.duplicates == found
    assert store.columns(["targetid"])["targetid"].tolist() == galaxies(0, 61).ids.tolist()


def test_two_surveys_may_hold_one_galaxy(store: SurveyStore):
    names = np.array(["desi-0"])
    one = galaxies(0, 1, survey=np.array(["desi"]))
    one = Survey(replace(one.images, ids=names), replace(one.spectra, ids=names), one.columns)
    assert store.append([one]) == []


# --- writes that end too early


@pytest.mark.usefixtures("small_commits")
def test_a_failing_producer_keeps_what_came_before(tmp_path: Path):
    def surveys():
        yield galaxies(0, 23)
        raise RuntimeError("the telescope closed")

    with pytest.raises(RuntimeError, match="telescope"):
        SurveyStore.create(tmp_path / "s", surveys())
    store = SurveyStore.open(tmp_path / "s")
    assert len(store) == 23
    store.append([galaxies(len(store), 30)])
    assert_same(store.read(), galaxies(0, 30))


@pytest.mark.usefixtures("small_commits")
def test_starting_over_gives_the_same_store(store: SurveyStore):
    assert len(store.append([galaxies(0, 75)])) == 60
    assert_same(store.read(), galaxies(0, 75))


WRITER = """
import sys
sys.path.insert(0, {here!r})
from appulse.survey import store_append
from appulse.survey.store import SurveyStore
from random_galaxies import galaxies
store_append.COMMIT_ROWS, store_append.PIECE_ROWS = 8, 4
def surveys():
    for i in range(0, 4000, 4):
        yield galaxies(i, i + 4)
        print(i, flush=True)
SurveyStore.create({path!r}, surveys())
"""


def test_a_killed_writer_leaves_whole_commits(tmp_path: Path):
    code = WRITER.format(here=str(Path(__file__).parent), path=str(tmp_path / "s"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        next(line for line in process.stdout if int(line) >= 48)
        process.kill()
    store = SurveyStore.open(tmp_path / "s")
    n = len(store)
    assert n >= 32
    assert n % 8 == 0
    store.append(galaxies(i, i + 4) for i in range(n, n + 12, 4))
    assert_same(store.read(), galaxies(0, n + 12))


def test_a_full_disk_is_said_and_keeps_what_came_before(store: SurveyStore):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not write.*first 60 rows are whole"):
            store.append([galaxies(60, 200)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store = SurveyStore.open(store.path)
    store.append([galaxies(60, 70)])
    assert_same(store.read(), galaxies(0, 70))


# --- what does not fit


def test_refuses_surveys_that_do_not_fit(store: SurveyStore):
    survey = galaxies(60, 62)
    small = replace(
        survey.images, flux=survey.images.flux[..., :8], mask=survey.images.mask[..., :8]
    )
    arrays = ("wavelength", "flux", "ivar", "mask")
    short = replace(survey.spectra, **{n: getattr(survey.spectra, n)[:, :9] for n in arrays})
    for misfit, message in (
        (Survey(small, survey.spectra), r"shape \(3, 12, 8\), the store's \(3, 12, 12\)"),
        (Survey(survey.images, short), "9 pixels, the store's 50"),
        (galaxies(60, 62, part=np.array(["test"] * 2)), r"\['part'\] are the store's own"),
        (galaxies(60, 62, redshift=np.array(["low"] * 2)), "redshift.*<U3, the store's double"),
    ):
        with pytest.raises(ValueError, match=message):
            store.append([misfit])
    with pytest.raises(TypeError, match="'when' has dtype datetime64"):
        store.append([galaxies(60, 62, when=np.zeros(2, dtype="datetime64[s]"))])
    assert_same(store.read(), galaxies(0, 60))


def test_nothing_is_written_over(store: SurveyStore):
    with pytest.raises(ValueError, match="choose another path, or delete it"):
        SurveyStore.create(store.path, [galaxies(0, 3)])
    assert len(SurveyStore.open(store.path)) == 60
    with pytest.raises(ValueError, match="other things than a survey store"):
        SurveyStore.create(Path(__file__).parent, [galaxies(0, 3)])
