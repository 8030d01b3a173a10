from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluate.sample import APART, PARTS, Sample, crowded
from appulse.survey.parts import Split
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey

ARCSEC = 1 / 3600


def test_neighbours_on_the_sky_are_those_by_hand():
    before = np.array([[10.0, 60.0], [0.0, 0.0], [np.nan, np.nan]])
    here = np.array(
        [
            [10.0, 60.0 + 0.9 * APART * ARCSEC],
            [10.0 + 1.9 * APART * ARCSEC, 60.0],  # half as far as it looks, at this declination
            [10.0 + 2.1 * APART * ARCSEC, 60.0],
            [360.0 - 0.9 * APART * ARCSEC, 0.0],
            [np.nan, 0.0],
        ]
    )
    assert crowded(here, before).tolist() == [True, True, False, True, False]
    assert not crowded(here, before[:0]).any()


@pytest.fixture(scope="module")
def real(store, tmp_path_factory):
    """A survey whose galaxies of test are beside those of encoder-train, as if it were real."""
    galaxies = store.read(range(200))
    galaxies.columns["survey"] = np.where(np.arange(200) % 2, "a", "b")
    parts = Split().assign(galaxies.ids, galaxies.images.ra, galaxies.images.dec)
    first, last = (np.flatnonzero(parts == part)[:5] for part in ("encoder-train", "test"))
    ra, dec = np.arange(200) / 2, np.zeros(200)
    ra[last], dec[last] = ra[first], 5 * ARCSEC
    images, spectra = (replace(c, ra=ra, dec=dec) for c in (galaxies.images, galaxies.spectra))
    galaxies = Survey(images, spectra, galaxies.columns)
    path = tmp_path_factory.mktemp("real") / "survey.lance"
    return SurveyStore.create(path, [galaxies]), galaxies.ids[last]


def test_who_shares_a_cutout_with_an_earlier_part_is_left_out(real):
    store, beside = real
    sample = Sample.of(store)
    ids = store.columns(["targetid"])["targetid"]
    parts = {part: set(ids[sample.rows(part)]) for part in ("encoder-train", *PARTS)}
    assert not parts["test"] & set(beside)
    assert len(parts["test"]) == len(store.rows("test")) - 5
    assert sum(len(p) for p in parts.values()) == len(set().union(*parts.values())) == 195
    assert len(sample.labels["test"]["redshift"]) == len(parts["test"])
    assert "5 left out within 20″" in sample.describe()["duplicates"]


def test_galaxies_without_a_position_are_not_said_to_be_apart(real, tmp_path):
    galaxies = real[0].read(range(100))
    unknown = np.where(np.arange(100) < 30, np.nan, galaxies.images.ra)
    images, spectra = (replace(c, ra=unknown) for c in (galaxies.images, galaxies.spectra))
    survey = Survey(images, spectra, galaxies.columns)
    sample = Sample.of(SurveyStore.create(tmp_path / "s.lance", [survey]))
    assert (
        "30 have no position, so what is near them is not known"
        in (sample.describe()["duplicates"])
    )
    assert "no position" not in Sample.of(real[0]).describe()["duplicates"]


def test_simulated_galaxies_stay_wherever_they_are(store):
    sample = Sample.of(store)
    assert all(kept.all() for kept in sample.kept.values())
    assert "by hashed id" in sample.describe()["parts"]


def test_other_labels_are_another_sample(real):
    store, _ = real
    one, other = Sample.of(store), Sample.of(store)
    assert one.identity == other.identity
    changed = Sample(store, one.kept)
    changed.labels["test"]["redshift"][0] += 0.1
    assert changed.identity != one.identity
