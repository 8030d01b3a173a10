import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.ndimage import gaussian_filter1d

import appulse
from appulse import posteriors
from appulse.cli.app import app
from appulse.search.embeddings import Embeddings
from appulse.survey.store import SurveyStore
from appulse.survey.survey import PROPERTIES
from appulse.survey.tables import read_table, write_table
from appulse.tasks.properties import GalaxyPosterior


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A posterior of `run`."""
    out = tmp_path_factory.mktemp("posteriors") / "posterior"
    posteriors.posterior(run.survey, run.embeddings, out, run.recipe.posterior, device="cpu")
    return out


@pytest.fixture
def tables(run):
    return {m: run.embeddings / f"test-{m}.parquet" for m in ("image", "spectrum")}


def test_the_folder_says_what_it_was_learned_from(run, folder):
    about = appulse.Posterior.load(folder, "cpu").about
    assert about["targets"] == {name: f"{name}_catalogue" for name in PROPERTIES}
    assert about["model_hash"] == appulse.load(run.align).hash()
    store = SurveyStore.open(run.survey)
    assert about["galaxies"] == len(store.rows("head-train"))
    z = store.columns(["redshift_catalogue"], "head-train")["redshift_catalogue"]
    assert about["ranges"]["redshift"] == [z.min(), z.max()]


def test_a_finished_fit_is_not_done_again(run, folder):
    def written():
        return {p: p.stat().st_mtime_ns for p in folder.rglob("best.safetensors")}

    before = written()
    again = posteriors.posterior(
        run.survey, run.embeddings, folder, run.recipe.posterior, device="cpu"
    )
    assert written() == before
    x = Embeddings.read(run.embeddings / "test-image.parquet")[:1].evidence
    theirs = GalaxyPosterior.load(folder, "cpu").posterior.sample(image=x, n=5)
    np.testing.assert_array_equal(again.posterior.sample(image=x, n=5), theirs)


def test_embeddings_of_other_galaxies_are_refused(run, tmp_path):
    for modality in ("image", "spectrum"):
        few = Embeddings.read(run.embeddings / f"test-{modality}.parquet")
        few.write(tmp_path / f"head-train-{modality}.parquet")
    with pytest.raises(ValueError, match="embeddings of other galaxies than the"):
        posteriors.posterior(run.survey, tmp_path, tmp_path / "out")


def test_a_survey_without_labels_is_refused(run, galaxies, tmp_path):
    bare = appulse.Survey(galaxies.images, galaxies.spectra, {})
    SurveyStore.create(tmp_path / "bare.lance", [bare])
    with pytest.raises(ValueError, match="no labels in its head-train part"):
        posteriors.posterior(tmp_path / "bare.lance", run.embeddings, tmp_path / "out")


# --- asking


def test_tables_of_both_kinds_hold_the_same(folder, tables, tmp_path):
    counts = posteriors.infer(folder, tmp_path / "a.parquet", **tables, n=20, device="cpu")
    posteriors.infer(folder, tmp_path / "a.fits", **tables, n=20, samples=True, device="cpu")
    parquet, fits = (read_table(tmp_path / f"a.{suffix}") for suffix in ("parquet", "fits"))
    assert counts["galaxies"] == len(parquet) == len(pq.read_table(tables["image"]))
    assert counts["without evidence"] == 0
    assert parquet["id"].to_pylist() == fits["id"].to_pylist()
    assert set(parquet["evidence"].to_pylist()) == {"image spectrum"}
    for name in PROPERTIES:
        samples = np.stack(fits[f"{name}_samples"].to_numpy(zero_copy_only=False))
        assert samples.shape == (len(fits), 20)
        np.testing.assert_allclose(np.median(samples, 1), parquet[name].to_numpy())
        low, high = (parquet[f"{name}_{end}_95"].to_numpy() for end in ("low", "high"))
        assert (low < parquet[name].to_numpy()).all()
        assert (high > parquet[name].to_numpy()).all()
    assert parquet.schema.metadata[b"label_age"] == b"age_catalogue"
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_call_goes_on_and_ends_the_same(folder, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(posteriors, "CHUNK", 40)
    out, whole = tmp_path / "a.parquet", tmp_path / "whole.parquet"
    posteriors.infer(folder, whole, **tables, n=20, device="cpu")
    calls, infer = [], GalaxyPosterior.infer

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return infer(*args, **kwargs)

    monkeypatch.setattr(GalaxyPosterior, "infer", counted)
    with pytest.raises(KeyboardInterrupt):
        posteriors.infer(folder, out, **tables, n=20, device="cpu")
    posteriors.infer(folder, out, **tables, n=20, device="cpu")
    chunks = -(-len(pq.read_table(whole)) // 40)
    assert len(calls) == chunks + 1  # the first chunk was kept, the second tried twice
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_parts_of_other_work_are_not_taken_over(folder, tables, tmp_path, monkeypatch):
    out = tmp_path / "a.parquet"
    stale = tmp_path / ".a.parquet.parts"
    posteriors.infer(folder, out, **tables, n=20, device="cpu")
    first = pq.read_table(out)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
    posteriors.infer(folder, out, **tables, n=20, seed=1, device="cpu")
    monkeypatch.undo()
    assert stale.exists()
    posteriors.infer(folder, out, **tables, n=20, device="cpu")
    assert pq.read_table(out).equals(first)


def test_the_commands_infer_from_photometry_alone(folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    columns = {f"flux_{band}": 50 * np.exp(rng.normal(size=5)) for band in "grz"}
    columns |= {f"flux_ivar_{band}": np.full(5, 4.0) for band in "grz"}
    columns["flux_g"][2] = np.nan
    write_table(pa.table({"targetid": np.arange(5), **columns}), tmp_path / "bricks.fits")
    arguments = ["infer", "--posterior", folder, "--photometry", tmp_path / "bricks.fits"]
    arguments += ["--out", tmp_path / "out.fits", "--n", 20, "--device", "cpu", "--json"]
    app([str(a) for a in arguments], result_action="return_value")
    counts = json.loads(capsys.readouterr().out)
    assert (counts["galaxies"], counts["without evidence"]) == (5, 1)
    assert read_table(tmp_path / "out.fits")["evidence"].to_pylist()[2] == ""


def test_what_cannot_be_inferred_is_said_before_any_work(run, folder, tables, tmp_path):
    with pytest.raises(ValueError, match=r"expected .parquet or .fits"):
        posteriors.infer(folder, tmp_path / "a.csv", **tables)
    with pytest.raises(ValueError, match="nothing to infer from"):
        posteriors.infer(folder, tmp_path / "a.fits")
    with pytest.raises(ValueError, match="holds no posterior"):
        posteriors.infer(run.align, tmp_path / "a.fits", **tables)
    other = Embeddings.read(tables["image"])
    Embeddings(other.ids, other.vectors, "image", "another").write(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="embed again with that model"):
        posteriors.infer(folder, tmp_path / "a.fits", image=tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet is one of the files to read"):
        posteriors.infer(folder, tmp_path / "other.parquet", image=tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="n is 0; expected 1 or more"):
        posteriors.infer(folder, tmp_path / "a.fits", **tables, n=0)
    assert not list(tmp_path.glob("*a.fits*"))


def test_no_folder_of_another_kind_is_written_over(run, folder, tmp_path):
    """Also if it holds another kind of posterior; nothing is read before: no survey is there."""
    appulse.Posterior.load(folder, "cpu").save(tmp_path / "plain")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config | {"about": {}}))
    missing = tmp_path / "none"
    for out in (run.align, tmp_path / "plain"):
        with pytest.raises(ValueError, match="not 'posterior'; choose another folder"):
            posteriors.posterior(missing, missing, out)
    with pytest.raises(ValueError, match="holds 'posterior', not 'generator'"):
        posteriors.generator(missing, missing, folder)


# --- pictures


@pytest.fixture(scope="module")
def plots(run, folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("generator") / "generator"
    posteriors.generator(run.survey, run.embeddings, made, run.recipe.generator, device="cpu")
    return posteriors.pictures(run.survey, run.embeddings, folder, made, device="cpu")


def test_pictures_show_every_parameter_and_evidence(plots):
    pit, curves, corner, *_ = (plot.figure for plot in plots)
    assert len(pit.axes) == len(PROPERTIES)
    assert [axes.get_title() for axes in curves.axes] == ["image", "spectrum", "both"]
    assert len(curves.axes[0].lines) == 1 + len(PROPERTIES) + 1  # diagonal and TARP
    assert len(corner.axes) == len(PROPERTIES) ** 2


def test_pictures_show_true_spectra_beside_generated_ones(run, plots):
    for_images, free = (plot.figure for plot in plots[3:])
    store = SurveyStore.open(run.survey)
    truth = store.take(store.rows("test")[:1], ["spectra"])["spectra"]
    true, made = (line.get_ydata() for line in for_images.axes[0].lines)
    assert np.corrcoef(true, gaussian_filter1d(truth.filled()[0], 4.0))[0, 1] > 0.999
    assert made.shape == true.shape
    assert all(len(axes.lines) == 1 for axes in free.axes)


def test_test_galaxies_without_an_embedding_are_left_out(run, folder, tmp_path, monkeypatch):
    for modality in ("image", "spectrum"):
        embeddings = Embeddings.read(run.embeddings / f"test-{modality}.parquet")
        vectors = embeddings.vectors.copy()
        vectors[0 if modality == "image" else 1] = np.nan
        replace(embeddings, vectors=vectors).write(tmp_path / f"test-{modality}.parquet")
    shown = []
    monkeypatch.setattr(posteriors, "posterior_plots", lambda *args: shown.append(args) or [])
    posteriors.pictures(run.survey, tmp_path, folder, device="cpu")
    ((_, evidence, theta),) = shown
    assert len(evidence) == len(theta) == len(embeddings) - 2
    assert evidence.ids.tolist() == embeddings.ids[2:].tolist()


def test_a_survey_without_redshifts_is_refused(run, galaxies, tmp_path):
    bare = appulse.Survey(galaxies.images, galaxies.spectra, {})
    SurveyStore.create(tmp_path / "bare.lance", [bare])
    with pytest.raises(ValueError, match="no redshifts; attach them"):
        posteriors.generator(tmp_path / "bare.lance", run.embeddings, tmp_path / "out")
