import shutil
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from appulse import queries
from appulse.align import towers
from appulse.align.load import load
from appulse.inference.fitting import FitConfig
from appulse.search.embeddings import Embeddings
from appulse.search.index import Index
from appulse.survey.readers import iter_images
from appulse.tasks import anomaly
from appulse.tasks.finetuned import Finetuned


def test_files_are_embedded_like_arrays(run, files, tmp_path):
    model = load(run.align)
    out, reasons = tmp_path / "images.parquet", tmp_path / "images.rejects.csv"
    written = queries.embed_files([files.broken, *files.cutouts], run.align, out, device="cpu")
    assert written == (out, 10, reasons, 1)
    assert str(written) == f"10 rows in {out}; 1 rejected, see {reasons}"
    image = Embeddings.read(tmp_path / "images.parquet")
    assert image.ids.tolist() == [path.stem for path in files.cutouts]
    expected = model.embed_images(files.galaxies.images[:10], device="cpu")
    np.testing.assert_allclose(image.vectors, expected, atol=2e-5)
    np.testing.assert_allclose(image.columns["ra"], files.galaxies.images.ra[:10], atol=1e-6)
    assert "hello" in (tmp_path / "images.rejects.csv").read_text()
    queries.embed_files(
        str(files.folder / "coadd*.fits"), run.align, tmp_path / "spectra.parquet", device="cpu"
    )
    spectrum = Embeddings.read(tmp_path / "spectra.parquet")
    assert spectrum.ids.tolist() == [str(i) for i in range(1002, 1012)]
    expected = model.embed_spectra(files.galaxies.spectra[2:], device="cpu")
    np.testing.assert_allclose(spectrum.vectors, expected, atol=2e-5)
    redshift = spectrum.columns["spectrum_redshift"]
    np.testing.assert_allclose(redshift, model.redshift(files.galaxies.spectra[2:]), atol=1e-6)


def test_a_stream_to_an_index_holds_what_a_table_holds(run, files, tmp_path, monkeypatch):
    monkeypatch.setattr(towers, "BATCH", 4)  # several batches, and files joined in each
    table, lance = tmp_path / "images.parquet", tmp_path / "images.lance"
    for out in (table, lance, lance):  # a second time over the first
        assert queries.embed_files(files.cutouts, run.align, out, device="cpu").rows == 10
    expected, index = Embeddings.read(table), Index.open(lance)
    assert index.model_hash == expected.model_hash
    found = index.search(expected, k=1)
    np.testing.assert_array_equal(found.ids[:, 0], expected.ids)
    np.testing.assert_allclose(found.similarity[:, 0], 1, atol=1e-5)


@pytest.mark.parametrize("suffix", [".parquet", ".lance"])
def test_an_interrupted_embedding_goes_on(run, files, tmp_path, monkeypatch, interrupting, suffix):
    """With the files that are not done; rejects of all are named, and nothing is left behind."""
    names, out = [files.broken, *files.cutouts], tmp_path / f"some{suffix}"
    read = queries.tasks.read_files
    monkeypatch.setattr(queries, "FILES", 4)
    monkeypatch.setattr(queries.tasks, "read_files", interrupting(read, 3))
    with pytest.raises(KeyboardInterrupt):
        queries.embed_files(names, run.align, out, device="cpu")
    assert not out.exists()
    seen = []
    monkeypatch.setattr(
        queries.tasks, "iter_images", lambda f, **o: seen.append(f) or iter_images(f, **o)
    )
    monkeypatch.setattr(queries.tasks, "read_files", read)
    assert queries.embed_files(names, run.align, out, device="cpu")[1::2] == (10, 1)
    assert seen == files.cutouts[7:]
    assert "hello" in (tmp_path / "some.rejects.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "some.rejects.csv"}
    whole = tmp_path / "whole.parquet"
    queries.embed_files(files.cutouts, run.align, whole, device="cpu")
    expected = Embeddings.read(whole)
    if suffix == ".lance":
        ids = Index.open(out).search(expected, k=1).ids[:, 0]
        np.testing.assert_array_equal(ids, expected.ids)
    else:
        found = Embeddings.read(out)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)


def test_what_was_done_of_other_files_is_not_gone_on_with(
    run, files, tmp_path, monkeypatch, interrupting
):
    """One of them is another now, under its old name."""
    names, out = [tmp_path / path.name for path in files.cutouts[:3]], tmp_path / "some.parquet"
    for name, path in zip(names, files.cutouts[3:], strict=False):
        shutil.copy(path, name)
    monkeypatch.setattr(queries, "FILES", 1)
    read = queries.tasks.read_files
    monkeypatch.setattr(queries.tasks, "read_files", interrupting(read, 3))
    with pytest.raises(KeyboardInterrupt):
        queries.embed_files(names, run.align, out, device="cpu")
    monkeypatch.setattr(queries.tasks, "read_files", read)
    shutil.copy(files.cutouts[0], names[0])
    queries.embed_files(names, run.align, out, device="cpu")
    vectors = load(run.align).embed_images(files.galaxies.images[[0, 4, 5]], device="cpu")
    np.testing.assert_allclose(Embeddings.read(out).vectors, vectors, atol=2e-5)


def test_files_without_a_good_row_say_why(run, files, tmp_path):
    header = fits.getheader(files.cutouts[0])
    bad, out = tmp_path / "bad.fits", tmp_path / "bad.parquet"
    fits.PrimaryHDU(np.full((3, 64, 64), np.nan), header).writeto(bad)
    for suffix in (".parquet", ".lance"):
        with pytest.raises(ValueError, match=r"nothing could be read: 1 rej.*bad.fits"):
            queries.embed_files(bad, run.align, out.with_suffix(suffix), device="cpu")
    assert "more than half" in (tmp_path / "bad.rejects.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"bad.fits", "bad.rejects.csv"}


def test_files_of_one_name_in_several_folders_are_warned_of(run, files, tmp_path):
    """Their ids would be the same; spectra of DESI have ids of their own."""
    paths = [tmp_path / folder / "cutout.fits" for folder in "ab"]
    for path, source in zip(paths, files.cutouts, strict=False):
        path.parent.mkdir()
        shutil.copy(source, path)
    arguments = [files.cutouts[0], *paths], run.align, tmp_path / "some.parquet"
    told = r"a.cutout.fits and .*b.cutout.fits both have the id 'cutout'.*: rename files"
    with pytest.warns(UserWarning, match=told):
        queries.embed_files(*arguments, device="cpu")
    twins = [tmp_path / folder / "coadd.fits" for folder in "ab"]
    for twin in twins:
        shutil.copy(files.coadd, twin)
    with fits.open(twins[1], mode="update") as hdus:
        hdus["FIBERMAP"].data["TARGETID"] += 5000
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "both have")
        queries.embed_files(twins, run.align, tmp_path / "spectra.parquet", device="cpu")
        queries.embed_files(paths[:1] * 2, run.align, tmp_path / "same.parquet", device="cpu")


def test_search_is_a_plain_cosine(run, files):
    stored = [Embeddings.read(run.embeddings / f"test-{m}.parquet") for m in ("image", "spectrum")]
    ids = np.concatenate([s.ids for s in stored])
    vectors = np.concatenate([s.vectors for s in stored]).astype(np.float64)
    asked = load(run.align).embed_images(files.galaxies.images[:3], device="cpu")
    cosine = asked @ vectors.T / np.linalg.norm(vectors, axis=1)
    index = run.embeddings / "test.lance"
    found = queries.search(files.cutouts[:3], run.align, index, k=4, device="cpu")
    names = ["galaxy-00", "galaxy-01", "galaxy-02"]
    assert [f["query"] for f in found] == np.repeat(names, 4).tolist()
    best = -np.sort(-cosine, axis=1)[:, :4]
    np.testing.assert_allclose([f["cosine"] for f in found], best.ravel(), atol=1e-4)
    for row, first in enumerate(found[::4]):
        assert first["id"] == files.galaxies.ids[row]  # itself
        assert first["cosine"] > 0.99
    for f in found:
        row = names.index(f["query"])
        assert np.abs(cosine[row, ids == f["id"]] - f["cosine"]).min() < 1e-4


def test_search_takes_conditions_and_either_modality(run, files):
    index = run.embeddings / "test.lance"
    where = "modality = 'image' and redshift_catalogue < 0.15"
    found = queries.search(files.coadd, run.align, index, k=3, where=where, device="cpu")
    stored = Embeddings.read(run.embeddings / "test-image.parquet")
    near = stored.columns["redshift_catalogue"] < 0.15
    query = load(run.align).embed_spectra(files.galaxies.spectra[2:], device="cpu")
    cosine = query @ stored.vectors[near].T
    best = -np.sort(-cosine, axis=1)[:, :3]
    np.testing.assert_allclose([f["cosine"] for f in found], best.ravel(), atol=1e-4)
    assert {f["id"] for f in found} <= set(stored.ids[near])
    with pytest.raises(ValueError, match="begins with b'hello'"):
        queries.search([files.cutouts[0], files.broken], run.align, index, device="cpu")


def test_an_index_has_the_columns_that_all_files_share(run, files, tmp_path):
    with pytest.warns(UserWarning, match="trained on simulated galaxies only"):
        queries.embed_files(files.coadd, run.align, tmp_path / "mine.parquet", device="cpu")
    paths = [run.embeddings / "test-image.parquet", tmp_path / "mine.parquet"]
    n = queries.index(paths, tmp_path / "i.lance")
    index = Index.open(tmp_path / "i.lance")
    assert n == len(index) == len(Embeddings.read(paths[0])) + 10
    query = Embeddings.read(paths[1])
    assert index.search(query, 1, "modality = 'spectrum'").ids[:, 0].tolist() == query.ids.tolist()
    with pytest.raises(ValueError, match=r"columns .*'ra', 'dec', 'coordinate_0'"):
        index.search(query, 1, "spectrum_redshift < 1")


def test_models_do_not_mix_in_an_index(run, tmp_path):
    path = run.embeddings / "test-image.parquet"
    queries.index([path], tmp_path / "i.lance")
    replace(Embeddings.read(path), model_hash="another").write(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="expected one for all files"):
        queries.index([tmp_path / "other.parquet", path], tmp_path / "i.lance")
    assert Index.open(tmp_path / "i.lance").model_hash == load(run.align).hash()


def test_an_index_is_made_whole_or_not_at_all(run, tmp_path):
    path, index = run.embeddings / "test-image.parquet", tmp_path / "i.lance"
    made = Embeddings.read(path)
    queries.index([path], index)
    replace(made[:3], vectors=np.zeros_like(made.vectors[:3])).write(tmp_path / "zero.parquet")
    with pytest.raises(ValueError, match="3 of 3 vectors are zero"):
        queries.index([run.embeddings / "test-spectrum.parquet", tmp_path / "zero.parquet"], index)
    assert Index.open(index).search(made[:5], 1).ids[:, 0].tolist() == made.ids[:5].tolist()
    numbers = [(n, c) for n, c in made[:3].columns.items() if c.dtype.kind == "f"]
    reverse = {name: column.astype(np.float64) for name, column in reversed(numbers)}
    replace(made[:3], columns=reverse).write(tmp_path / "reverse.parquet")
    assert queries.index([path, tmp_path / "reverse.parquet"], index) == len(made) + 3


def test_no_file_that_is_read_is_written_over(run, files, tmp_path):
    """And a name that cannot be written is refused before any work: nothing here is a model."""
    path = run.embeddings / "test-image.parquet"
    with pytest.raises(ValueError, match="is one of the files to read"):
        queries.embed_files([files.coadd, path], "nothing", path)
    with pytest.raises(ValueError, match="is one of the files to read"):
        queries.predict([path], tmp_path, path)
    for out in (path, run.embeddings / "." / path.name):
        with pytest.raises(ValueError, match="is one of the files to read"):
            queries.anomaly(tmp_path / "none.parquet", path, out)
    with pytest.raises(ValueError, match=r"ends in '\.csv'"):
        queries.predict([path], tmp_path, tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"ends in '\.csv'"):
        queries.anomaly(tmp_path / "none.parquet", path, tmp_path / "a.csv")


def test_own_labels_are_learned_and_predicted(run, store, files, tmp_path):
    """A survey's galaxies teach; files are asked."""
    rows = store.rows("head-train")[:80]
    table = {name: store.take(rows, [name])[name] for name in ("targetid", "mag_r", "mag_g")}
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    learn = tmp_path / "labels.parquet", ["mag_r", "mag_g"], run.align
    with pytest.raises(ValueError, match="holds 'align', not 'finetune'; choose another folder"):
        queries.finetune(*learn, run.align, survey=run.survey)
    for _ in range(2):  # over a run of its own
        scores = queries.finetune(*learn, tmp_path / "tuned", survey=run.survey, device="cpu")
    assert scores["galaxies"] == 80
    assert {"mag_r, R²", "mag_g, R²"} < set(scores)
    out = tmp_path / "said.parquet"
    names = [*files.cutouts, files.broken]
    written = queries.predict(names, tmp_path / "tuned", out, device="cpu")
    assert written == (out, 10, out.with_suffix(".rejects.csv"), 1)
    assert str(files.broken) in written.reasons.read_text()
    table = pq.read_table(out)
    assert table.column_names == ["id", "mag_r", "mag_g"]
    assert table["id"].to_pylist() == [path.stem for path in files.cutouts]
    expected = Finetuned.load(tmp_path / "tuned").predict(files.galaxies.images[:10], device="cpu")
    np.testing.assert_allclose(np.stack([table["mag_r"], table["mag_g"]], 1), expected, rtol=1e-4)


def test_the_oddest_come_first(run, tmp_path, monkeypatch):
    monkeypatch.setattr(anomaly, "FIT", replace(anomaly.FIT, fit=FitConfig(steps=50)))
    test, other = (
        Embeddings.read(run.embeddings / f"{part}-image.parquet") for part in ("test", "head-train")
    )
    vectors = test.vectors.copy()
    vectors[7] = -vectors.mean(0)
    replace(test, vectors=vectors).write(tmp_path / "asked.parquet")
    other.write(tmp_path / "others.parquet")
    paths = tmp_path / "asked.parquet", tmp_path / "others.parquet"
    first = queries.anomaly(*paths, tmp_path / "odd.parquet")
    assert first[0]["id"] == test.ids[7]
    table = pq.read_table(tmp_path / "odd.parquet")
    assert sorted(table["id"].to_pylist()) == sorted(test.ids.tolist())
    with pytest.raises(ValueError, match=r"galaxies are in both files, such as 'synthetic"):
        queries.anomaly(paths[0], paths[0], tmp_path / "odd.parquet")
    replace(other, model_hash="other").write(paths[1])
    with pytest.raises(ValueError, match=r"embeddings of other; expected the same"):
        queries.anomaly(*paths, tmp_path / "odd.parquet")
