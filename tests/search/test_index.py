import subprocess
import sys
import threading

import lance
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from appulse.search import index as index_module
from appulse.search.embeddings import Embeddings
from appulse.search.index import Index

D = 6


def make(n, modality="image", seed=0, model_hash="abc", **columns):
    rng = np.random.default_rng(seed)
    ids = np.array([f"{modality}-{seed}-{i}" for i in range(n)])
    vectors = 3 * rng.normal(size=(n, D)).astype(np.float32)
    return Embeddings(ids, vectors, modality, model_hash, columns)


def by_sorting(embeddings, queries, k):
    """Ids and cosines the slow way."""
    similarity = cosine_similarity(queries, embeddings.vectors)
    order = np.argsort(-similarity, axis=1)[:, :k]
    return embeddings.ids[order], np.take_along_axis(similarity, order, axis=1)


@pytest.mark.parametrize(("chunk", "queries"), [(7, 4), (50, 1000)])
def test_search_is_a_full_sort_by_cosine(tmp_path, monkeypatch, chunk, queries):
    monkeypatch.setattr(index_module, "CHUNK", chunk)
    monkeypatch.setattr(index_module, "QUERIES", queries)
    stored, asked = make(50), make(11, seed=1)
    ids, similarity = Index.create(tmp_path / "i.lance", stored).search(asked, k=9)
    expected_ids, expected = by_sorting(stored, asked.vectors, 9)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(similarity, expected, atol=1e-6)


def test_a_stored_row_finds_itself_after_reopening(tmp_path):
    stored = make(30)
    Index.create(tmp_path / "i.lance", stored)
    ids, similarity = Index.open(tmp_path / "i.lance").search(stored.vectors, k=1)
    np.testing.assert_array_equal(ids[:, 0], stored.ids)
    np.testing.assert_allclose(similarity, 1, atol=1e-6)


def test_where_filters_before_the_search(tmp_path):
    z = np.linspace(0, 1, 40)
    stored = make(40, redshift=z)
    index = Index.create(tmp_path / "i.lance", stored)
    low = z < 0.3
    near = Embeddings(stored.ids[low], stored.vectors[low], "image", "abc")
    query = stored.vectors[-2:]
    expected, _ = by_sorting(near, query, 5)
    np.testing.assert_array_equal(index.search(query, 5, "redshift < 0.3").ids, expected)


def test_both_modalities_live_in_one_index(tmp_path):
    images, spectra = make(20), make(20, "spectrum", seed=2)
    index = Index.create(tmp_path / "i.lance", images)
    index.add(spectra)
    assert len(index) == 40
    found = index.search(images, 3, where="modality = 'spectrum'")
    np.testing.assert_array_equal(found.ids, by_sorting(spectra, images.vectors, 3)[0])


def test_fewer_matches_than_asked_for(tmp_path):
    index = Index.create(tmp_path / "i.lance", make(5, redshift=np.arange(5.0)))
    assert index.search(make(2), k=10).ids.shape == (2, 5)
    nothing = index.search(make(2), k=10, where="redshift > 9")
    assert nothing.ids.shape == nothing.similarity.shape == (2, 0)


def test_equal_rows_come_in_stored_order(tmp_path):
    same = Embeddings(np.array(list("abcd")), np.ones((4, D), np.float32), "image", "abc")
    found = Index.create(tmp_path / "i.lance", same).search(np.ones((1, D), np.float32), k=4)
    assert found.ids[0].tolist() == list("abcd")


def test_other_models_are_refused(tmp_path):
    index = Index.create(tmp_path / "i.lance", make(5))
    with pytest.raises(ValueError, match=r"model 'xyz' and width 6, the index 'abc'"):
        index.search(make(2, model_hash="xyz"))
    with pytest.raises(ValueError, match="model 'xyz'"):
        index.add(make(2, model_hash="xyz"))
    with pytest.raises(ValueError, match="width 5"):
        index.search(np.ones((1, 5), np.float32))


def test_other_columns_are_refused_and_leave_the_index_as_it_was(tmp_path):
    index = Index.create(tmp_path / "i.lance", make(5, redshift=np.zeros(5)))
    with pytest.raises(ValueError, match="redshift"):
        index.add(make(5, seed=1))
    assert len(Index.open(tmp_path / "i.lance")) == 5


@pytest.mark.parametrize("where", ["mass > 3", "redshift <"])
def test_a_bad_condition_names_the_columns(tmp_path, where):
    index = Index.create(tmp_path / "i.lance", make(5, redshift=np.zeros(5)))
    with pytest.raises(ValueError, match=r"expected SQL on the columns .*redshift"):
        index.search(make(1), where=where)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused(tmp_path, bad):
    vectors = np.ones((4, D), np.float32)
    vectors[2] = bad
    with pytest.raises(ValueError, match=r"1 of 4 vectors .* rows \[2\]"):
        Index.create(
            tmp_path / "i.lance", Embeddings(np.arange(4).astype(str), vectors, "image", "a")
        )


def test_create_keeps_what_is_there_unless_told(tmp_path):
    path = tmp_path / "i.lance"
    Index.create(path, make(5))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        Index.create(path, make(3))
    assert len(Index.create(path, make(3), overwrite=True)) == 3


def test_nothing_or_something_else_at_the_path(tmp_path):
    import lance
    import pyarrow as pa

    with pytest.raises(FileNotFoundError, match=r"no index at .*none\.lance"):
        Index.open(tmp_path / "none.lance")
    lance.write_dataset(pa.table({"a": [1]}), str(tmp_path / "other.lance"))
    with pytest.raises(FileNotFoundError, match="not an index"):
        Index.open(tmp_path / "other.lance")


def test_k_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="k is 0"):
        Index.create(tmp_path / "i.lance", make(5)).search(make(1), k=0)


def test_overwriting_takes_an_index_and_nothing_else(tmp_path):
    Index.create(tmp_path / "i.lance", make(5))
    Index.create(tmp_path / "i.lance", make(3, seed=1), overwrite=True)
    assert len(Index.open(tmp_path / "i.lance")) == 3
    survey = lance.write_dataset(pa.table({"flux": [1.0]}), str(tmp_path / "survey.lance"))
    with pytest.raises(FileNotFoundError, match="not an index of embeddings"):
        Index.create(tmp_path / "survey.lance", make(3), overwrite=True)
    assert lance.dataset(survey.uri).version == 1


@pytest.mark.parametrize("failure", [KeyError("boom"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there_and_says_why(tmp_path, failure):
    """Also Ctrl-C; a first write leaves nothing, so that it can be done again."""

    def parts():
        yield make(5, seed=1)
        raise failure

    path = tmp_path / "i.lance"
    with pytest.raises(type(failure)) as raised:
        Index.stream(path, parts())
    assert raised.value is failure
    assert not path.exists()
    Index.create(path, make(3))
    with pytest.raises(type(failure)):
        Index.stream(path, parts(), overwrite=True)
    assert Index.open(path).search(make(3), k=1).ids[:, 0].tolist() == make(3).ids.tolist()


def test_an_interrupt_just_after_the_commit_loses_nothing(tmp_path, monkeypatch):
    path, commit = tmp_path / "i.lance", lance.LanceDataset.commit
    Index.create(path, make(3))

    def interrupted(*arguments):
        commit(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(lance.LanceDataset, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Index.create(path, make(5, seed=1), overwrite=True)
    assert len(Index.open(path).search(make(5, seed=1), k=1).ids) == 5


def test_a_stream_is_written_piece_by_piece_from_the_callers_thread(tmp_path, monkeypatch):
    """Threads of Lance's would each keep the memory that an embedding took."""
    monkeypatch.setattr(index_module, "CHUNK", 4)
    threads = set()

    def parts():
        for k in range(5):
            threads.add(threading.get_ident())
            yield make(3, seed=k)

    Index.stream(tmp_path / "i.lance", parts())
    stored = lance.dataset(str(tmp_path / "i.lance"))
    expected = [name for k in range(5) for name in make(3, seed=k).ids]
    assert stored.to_table(["id"])["id"].to_pylist() == expected
    assert [f.count_rows() for f in stored.get_fragments()] == [6, 6, 3]
    assert threads == {threading.get_ident()}


def test_parts_that_differ_are_refused_also_later(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "CHUNK", 4)
    parts = [make(5), make(5, seed=1), make(5, model_hash="other")]
    with pytest.raises(ValueError, match="embeddings of one index differ"):
        Index.stream(tmp_path / "i.lance", parts)
    assert not (tmp_path / "i.lance").exists()


def test_what_a_killed_write_left_is_no_index(tmp_path):
    path = tmp_path / "i.lance"
    (path / "data").mkdir(parents=True)
    (path / "data" / "0.lance").write_bytes(b"half")
    assert len(Index.create(path, make(3))) == 3
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "thesis.tex").touch()
    with pytest.raises(FileNotFoundError, match="no index at"):
        Index.create(tmp_path / "other", make(3), overwrite=True)
    assert (tmp_path / "other" / "data" / "thesis.tex").exists()


def test_a_failed_write_takes_nothing_else_with_it(tmp_path):
    """Neither datasets in a folder called data, nor files that a killed write left."""
    survey = tmp_path / "project" / "data" / "survey.lance"
    survey.mkdir(parents=True)
    (tmp_path / "killed" / "data").mkdir(parents=True)
    (tmp_path / "killed" / "data" / "0.lance").write_bytes(b"half")
    for name, error in (("project", FileNotFoundError), ("killed", ValueError)):
        with pytest.raises(error):
            Index.stream(tmp_path / name, [make(5), make(5, model_hash="other")], overwrite=True)
    assert survey.exists()
    assert [file.name for file in (tmp_path / "killed" / "data").iterdir()] == ["0.lance"]


def test_overwriting_gives_the_disk_back(tmp_path):
    def bytes_of(path):
        return sum(file.stat().st_size for file in path.rglob("*.lance"))

    path = tmp_path / "i.lance"
    (path / "data").mkdir(parents=True)
    (path / "data" / "0.lance").write_bytes(b"half")  # of a write that was killed
    Index.create(path, make(50))
    once = bytes_of(path)
    for seed in range(3):
        Index.create(path, make(50, seed=seed), overwrite=True)
    assert bytes_of(path) == pytest.approx(once, rel=0.1)
    assert len(Index.open(path)) == 50


INTERRUPTED = """
import signal, sys, threading, time
import numpy as np
from appulse.search.embeddings import Embeddings
from appulse.search.index import Index

signal.signal(signal.SIGINT, signal.default_int_handler)

def parts():
    for k in range(200):
        if k == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)
        yield Embeddings(np.array([str(k)]), np.ones((1, 4), "f4"), "image", "h")

try:
    Index.stream(sys.argv[1], parts())
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_stops_a_stream_and_not_the_process(tmp_path):
    """And nothing is left of the index."""
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "i.lance")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    assert not (tmp_path / "i.lance").exists()
