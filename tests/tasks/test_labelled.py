import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appulse.survey.images import Images
from appulse.tasks import labelled
from appulse.tasks.labelled import Labels, labelled_files, labelled_survey, parts_of


@pytest.fixture
def table(tmp_path, files):
    """Labels of every second cutout, of one galaxy that has no file, and of one that lacks all."""
    ids = [f"galaxy-{i:02d}" for i in range(0, 10, 2)]
    columns = {
        "name": [*ids, "elsewhere", "unknown"],
        "size": [0.0, 2.0, 4.0, None, 8.0, 3.0, None],
        "votes": [0, 2, 4, 6, 8, 3, None],
        "kind": ["a", "b", "a", "b", "a", "b", ""],
    }
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_numbers_keep_their_holes_and_rows_without_any_label_go(table):
    labels = Labels.read(table, ["size", "votes"])
    assert labels.ids.tolist()[-1] == "elsewhere"
    np.testing.assert_array_equal(
        labels.of(np.array(["galaxy-06", "galaxy-02"])), [[np.nan, 6], [2, 2]]
    )
    assert len(Labels.read(table, ["size"]).ids) == 5


def test_one_column_may_be_names(table):
    labels = Labels.read(table, ["kind"])
    assert labels.of(np.array(["elsewhere", "galaxy-00"])).tolist() == ["b", "a"]
    assert "unknown" not in labels.ids
    with pytest.raises(ValueError, match="expected numbers, or one column of class names"):
        Labels.read(table, ["kind", "size"])


def test_what_is_missing_is_named(table, tmp_path):
    with pytest.raises(ValueError, match="lacks colour; its columns are name, size, votes, kind"):
        Labels.read(table, ["colour"])
    pq.write_table(pa.table({"size": [1.0]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="lacks one of targetid/id"):
        Labels.read(tmp_path / "bare.parquet", ["size"])
    twice = pa.table({"id": ["a", "b", "a"], "size": [1.0, 2.0, 3.0]})
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="labels 'a' twice"):
        Labels.read(tmp_path / "twice.parquet", ["size"])


def test_files_with_labels_are_read_in_their_order(table, files):
    labels = Labels.read(table, ["votes"])
    images = labelled_files(files.cutouts[::-1], labels)
    assert images.ids.tolist() == [f"galaxy-{i:02d}" for i in (8, 6, 4, 2, 0)]
    np.testing.assert_allclose(images.flux, files.galaxies.images.flux[[8, 6, 4, 2, 0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"no galaxy has a label: their ids are like \['1002'"):
        labelled_files(files.coadd, labels)


def test_rows_of_a_survey_with_labels_are_read(store):
    ids = store.take(store.rows("test")[[7, 3]], ["targetid"])["targetid"]
    labels = Labels(np.append(ids, "other"), np.array([[1.0], [2.0], [3.0]]))
    spectra = labelled_survey(store, labels, "spectrum")
    assert spectra.ids.tolist() == ids[::-1].tolist()
    assert labels.of(spectra.ids).ravel().tolist() == [2, 1]
    assert labelled_survey(store, labels, "image").ids.tolist() == ids[::-1].tolist()
    with pytest.raises(ValueError, match="no galaxy has a label"):
        labelled_survey(store, Labels(np.array(["x"]), np.ones((1, 1))), "image")


def test_galaxies_that_towers_learned_from_are_left_out(store):
    rows = [store.rows(part)[0] for part in ("encoder-train", "head-train", "validation", "test")]
    ids = store.take(rows, ["targetid"])["targetid"]
    labels = Labels(ids, np.ones((4, 1)))
    assert set(labelled_survey(store, labels, "image").ids) == set(ids[1:])
    seen = Labels(ids[:1], np.ones((1, 1)))
    with pytest.raises(ValueError, match="1 galaxies with labels are all of encoder-train"):
        labelled_survey(store, seen, "image")


def test_observations_of_a_galaxy_stay_in_one_part():
    """Whatever their order; where each is seen once, rows are drawn as they are."""
    ids = np.random.default_rng(0).permutation(np.repeat([f"g{i}" for i in range(40)], 3))
    fit, stop, test = parts_of(ids, seed=1)
    groups = [set(ids[rows]) for rows in (fit, stop, test)]
    assert [len(group) for group in groups] == [28, 6, 6]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40
    assert (len(fit), len(stop), len(test)) == (84, 18, 6)  # scores count a galaxy once
    order = np.random.default_rng(1).permutation(40)
    once = np.concatenate(parts_of(np.array([f"g{99 - i}" for i in range(40)]), seed=1))
    np.testing.assert_array_equal(once, order)


def test_images_of_several_scales_become_one_scale(files, monkeypatch):
    one = files.galaxies.images[:2]
    arrays = {"ids": ["far"], "pixel_scale": 0.4}
    other = Images.from_arrays(one.flux[:1], **arrays)
    monkeypatch.setattr(labelled, "iter_images", lambda *_, **__: iter([one, other]))
    labels = Labels(np.append(one.ids, "far"), np.ones((3, 1)))
    images = labelled_files(files.cutouts, labels)
    assert set(images.pixel_scale) == {0.262}
    assert images.flux.shape[-1] == 96  # what 64 pixels of 0.4 arcsec hold
    assert images.flux[2].sum() == pytest.approx(other.flux.sum(), rel=0.05)
