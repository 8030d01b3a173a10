import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from appulse.search.embeddings import Embeddings, require_writable, with_shared_columns


@pytest.fixture
def embeddings():
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    columns = {
        "redshift": np.array([0.1, np.nan, 0.3]),
        "morphology": np.array(["spiral", "", "elliptical"]),
        "zwarn": np.array([0, 4, 0]),
    }
    return Embeddings(np.array(["a", "b", "39628"]), vectors, "spectrum", "f00d", columns)


def test_a_file_gives_back_every_bit(embeddings, tmp_path):
    embeddings.write(tmp_path / "e.parquet")
    back = Embeddings.read(tmp_path / "e.parquet")
    assert (back.modality, back.model_hash) == ("spectrum", "f00d")
    np.testing.assert_array_equal(back.ids, embeddings.ids)
    np.testing.assert_array_equal(back.vectors, embeddings.vectors)
    assert list(back.columns) == list(embeddings.columns)
    for name, column in embeddings.columns.items():
        np.testing.assert_array_equal(back.columns[name], column)


def test_a_slice_of_a_table_keeps_rows_together(embeddings):
    back = Embeddings.from_table(embeddings.to_table().slice(1))
    np.testing.assert_array_equal(back.vectors, embeddings.vectors[1:])
    assert back.ids.tolist() == ["b", "39628"]


def test_rows_are_taken_together(embeddings):
    back = embeddings[np.array([2, 0])]
    assert back.ids.tolist() == ["39628", "a"]
    np.testing.assert_array_equal(back.vectors, embeddings.vectors[[2, 0]])
    assert back.columns["morphology"].tolist() == ["elliptical", "spiral"]
    assert (back.modality, back.model_hash) == ("spectrum", "f00d")


def test_another_table_is_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no table of embeddings"):
        Embeddings.read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.array(["a"])}, "ids has 1 rows, vectors 3"),
        ({"columns": {"z": np.ones(2)}}, "z has 2 rows"),
        ({"columns": {"id": np.ones(3)}}, r"may not be named \['id'\]"),
    ],
)
def test_inconsistent_rows_are_refused(embeddings, change, message):
    with pytest.raises(ValueError, match=message):
        replace(embeddings, **change)


@pytest.mark.parametrize("change", [{"vectors": np.ones(3, np.float32)}, {"modality": "sound"}])
def test_wrong_kinds_are_refused(embeddings, change):
    """By the type checker in tests, by our own check elsewhere."""
    with pytest.raises((ValueError, TypeError)):
        replace(embeddings, **change)


def test_fits_holds_the_same_and_other_programs_read_it(embeddings, tmp_path):
    embeddings.write(tmp_path / "e.fits")
    back = Embeddings.read(tmp_path / "e.fits")
    assert (back.modality, back.model_hash) == ("spectrum", "f00d")
    np.testing.assert_array_equal(back.ids, embeddings.ids)
    np.testing.assert_array_equal(back.vectors, embeddings.vectors)
    for name, column in embeddings.columns.items():
        np.testing.assert_array_equal(back.columns[name], column)
    from astropy.io import fits

    with fits.open(tmp_path / "e.fits") as hdus:
        assert hdus[1].header["MODEL_HASH"] == "f00d"
        assert hdus[1].data["embedding"].shape == (3, 4)
        assert hdus[1].data["id"].tolist() == ["a", "b", "39628"]


def test_npy_and_json_are_of_one_write(embeddings, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    embeddings[:2].write(tmp_path / "e.npy")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        embeddings[2:4].write(tmp_path / "e.npy")
    assert json.loads((tmp_path / "e.json").read_text())["id"] == embeddings.ids[:2].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.json", "e.npy"]


def test_npy_holds_vectors_and_json_beside_it_the_rest(embeddings, tmp_path):
    embeddings.write(tmp_path / "e.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), embeddings.vectors)
    about = json.loads((tmp_path / "e.json").read_text())
    assert about["model_hash"] == "f00d"
    assert about["id"] == ["a", "b", "39628"]
    assert about["redshift"] == [0.1, None, 0.3]


def test_other_suffixes_are_refused_before_any_work(embeddings, tmp_path):
    for refuse in (require_writable, embeddings.write):
        with pytest.raises(ValueError, match=r"ends in '.txt'; expected"):
            refuse(tmp_path / "e.txt")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(ValueError, match=r"cannot write to folder .*file: "):
        require_writable(tmp_path / "file" / "e.parquet")
    with pytest.raises(ValueError, match="is a folder; expected the name of a file"):
        require_writable(tmp_path / "a.parquet")
    require_writable(tmp_path / "new" / "folder" / "e.lance")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ['{"mine": 1}', "[1]", "3", "no JSON"])
def test_somebody_elses_json_is_left_alone(embeddings, tmp_path, text):
    (tmp_path / "e.json").write_text(text)
    for refuse in (require_writable, embeddings.write):
        with pytest.raises(ValueError, match=r"needs .*e\.json beside it"):
            refuse(tmp_path / "e.npy")
    assert (tmp_path / "e.json").read_text() == text
    embeddings.write(tmp_path / "own.npy")
    embeddings[:2].write(tmp_path / "own.npy")  # over one's own


def _rewritten(table, metadata=None, **columns):
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table.replace_schema_metadata(metadata or table.schema.metadata)


def test_tables_that_other_tools_wrote_again_are_read(embeddings):
    """Lists of any length, integer ids, large strings, categories: the same rows."""
    table = embeddings.to_table()
    again = _rewritten(
        table,
        id=pa.array([1, 2, 39628]),
        embedding=pa.array(embeddings.vectors.tolist()),
        modality=table["modality"].cast(pa.large_string()),
        morphology=pa.array(["spiral", None, "elliptical"]).dictionary_encode(),
    )
    back = Embeddings.from_table(again)
    assert back.ids.tolist() == ["1", "2", "39628"]
    np.testing.assert_array_equal(back.vectors, embeddings.vectors)
    assert back.columns["morphology"].tolist() == ["spiral", "", "elliptical"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 2], [1.0, 2], [1.0]]), r"lengths \[2, 1\]; expected the same"),
        (pa.array([[1.0, 2], None, [1.0, 2]]), "expected the same"),
        (pa.array([[1.0, 2], None, [1.0, 2]], pa.list_(pa.float32(), 2)), "expected a list"),
        (pa.array([1.0, 2, 3]), "embeddings are double; expected a list"),
    ],
)
def test_vectors_of_other_shapes_are_refused(embeddings, column, message):
    with pytest.raises(ValueError, match=message):
        Embeddings.from_table(_rewritten(embeddings.to_table(), embedding=column))


def test_metadata_without_a_hash_is_refused(embeddings):
    with pytest.raises(ValueError, match="no table of embeddings"):
        Embeddings.from_table(_rewritten(embeddings.to_table(), {"pandas": "{}"}))


def test_shared_columns_have_one_order_and_one_type(embeddings):
    other = replace(
        embeddings,
        columns={
            "zwarn": np.array([0.0, np.nan, 1]),
            "morphology": np.array(["a", "b", "c"]),
            "redshift": np.ones(3, np.float32),
            "more": np.ones(3),
        },
    )
    one, two = (part.to_table().schema for part in with_shared_columns([embeddings, other]))
    assert one.equals(two, check_metadata=True)
    assert one.field("zwarn").type == pa.float64()
    text = replace(embeddings, columns={"zwarn": np.array(["a", "b", "c"])})
    with pytest.raises(ValueError, match="column zwarn is of types int64, <U1"):
        with_shared_columns([embeddings, text])


def test_ids_come_back_whatever_they_are():
    names = np.array(["-1", "nan", "a"])
    made = Embeddings(names, np.eye(3, dtype=np.float32), "image", "model A")
    assert Embeddings.from_table(made.to_table()).ids.tolist() == names.tolist()
