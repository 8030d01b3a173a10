import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from appulse import observations, pipeline
from appulse.align.load import load
from appulse.digest import digest
from appulse.evaluate.sample import PARTS
from appulse.search.embeddings import Embeddings
from appulse.search.index import Index
from appulse.spectrum import rest
from appulse.survey.parts import Split
from appulse.survey.store import SurveyStore
from appulse.training.run import load_weights, read_metrics, save_tensors

EVEN = Split(dict.fromkeys(("encoder-train", *PARTS), 0.25))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, when written and what it holds, but for `about.json` and locks."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("about.json", ".lock")
    }


def never(*args, **kwargs):
    raise AssertionError("done again")


@pytest.fixture(scope="module")
def others(store, tmp_path_factory) -> Path:
    """Other galaxies, some in every part."""
    path = tmp_path_factory.mktemp("others") / "others.lance"
    return Path(SurveyStore.create(path, [store.read(range(100, 160))], split=EVEN).path)


# --- surveys


def test_a_simulation_goes_on_where_it_ended(tmp_path):
    whole = pipeline.simulate(140, tmp_path / "whole.lance", seed=1, size=64, processes=1)
    for n in (1, 60, 140, 30):  # a smaller number asks for nothing more
        parts = pipeline.simulate(n, tmp_path / "parts.lance", seed=1, size=64, processes=1)
        assert len(parts) == max(n, len(parts))
    assert parts.identity == whole.identity
    for rows in ([0, 59, 60], [127, 128, 139]):
        one, other = parts.read(rows), whole.read(rows)
        np.testing.assert_array_equal(one.images.flux, other.images.flux)
        np.testing.assert_array_equal(one.spectra.flux, other.spectra.flux)
        np.testing.assert_array_equal(one.columns["redshift_true"], other.columns["redshift_true"])


def test_an_interrupted_simulation_goes_on(tmp_path, monkeypatch):
    whole = pipeline.simulate_blocks

    def cut_short(*args, **kwargs):
        yield next(iter(whole(*args, **kwargs)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "simulate_blocks", cut_short)
        with pytest.raises(KeyboardInterrupt):
            pipeline.simulate(150, tmp_path / "s.lance", seed=1, size=64, processes=1)
    store = pipeline.simulate(150, tmp_path / "s.lance", seed=1, size=64, processes=1)
    ids = store.columns(["targetid"])["targetid"].tolist()
    assert ids == [f"synthetic-1-{i:09d}" for i in range(150)]


def test_a_simulation_killed_before_its_first_galaxy_goes_on(tmp_path, store):
    empty = store.read([0])
    made = SurveyStore.create(tmp_path / "s.lance", [empty])
    made._dataset.delete("true")
    assert len(pipeline.simulate(3, tmp_path / "s.lance", seed=1, size=64, processes=1)) == 3


def test_populations_are_continued_and_told_apart(tmp_path):
    path = tmp_path / "stars.lance"
    arguments = {"seed": 1, "size": 64, "processes": 1}
    for n in (3, 5):
        store = pipeline.simulate(n, path, population="star", **arguments)
        assert len(store) == n
    assert store.columns(["spectype"])["spectype"].tolist() == ["STAR"] * 5
    with pytest.raises(ValueError, match="synthetic-star-1-000000004 is there, not seed 1 of qso"):
        pipeline.simulate(9, path, population="qso", **arguments)


def test_another_universe_or_a_real_survey_is_refused(tmp_path, store, files):
    with pytest.raises(ValueError, match=r"synthetic-3-000000599 is there, not seed 4"):
        pipeline.simulate(700, Path(store.path), seed=4, size=64)
    assert len(SurveyStore.open(store.path)) == 600
    observations.pair(files.cutouts, files.coadd, tmp_path / "real.lance", size=64)
    with pytest.raises(ValueError, match="not seed 0 of bgs; choose another folder"):
        pipeline.simulate(10, tmp_path / "real.lance", size=64)


def test_training_learned_something(run):
    spectrum, both = (read_metrics(path) for path in (run.spectrum, run.align))
    losses = [line["validation_loss"] for line in spectrum if "validation_loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    last = [line for line in both if "validation_loss" in line][-1]
    held_out = len(SurveyStore.open(run.survey).rows("validation"))
    assert last["validation_loss"] < 0.6 * np.log(held_out)  # what knowing nothing costs
    assert last["top10"] > 0.8
    assert [line["step"] for line in both if "top10" in line] == [40, 80]


def test_a_finished_stage_is_not_done_again(run, monkeypatch):
    before = state(run.folder)
    for name in ("pair_loss", "cache_pairs"):
        monkeypatch.setattr(pipeline, name, never)
    monkeypatch.setattr(rest, "learn_dictionary", never)
    monkeypatch.setattr(rest.RestSpace, "fit", never)
    monkeypatch.setattr(pipeline.MaskedModel, "loss", never)
    monkeypatch.setattr(pipeline.tasks, "embed_survey", never)
    pipeline.simulate(600, run.survey, seed=3, size=64)
    pipeline.pretrain_spectrum(run.survey, run.spectrum, run.recipe, device="cpu")
    pipeline.align(run.survey, run.spectrum, run.align, run.recipe, device="cpu")
    pipeline.embed(run.survey, run.align, run.embeddings, device="cpu")
    after = state(run.folder)
    kept = {name for name in before if not name.startswith("embeddings/test.lance")}
    assert len(kept) > 15
    for name in kept - {"spectrum/config.json", "align/config.json"}:
        assert after[name] == before[name], name
    assert after["align/config.json"][1] == before["align/config.json"][1]
    assert not (run.align / "cache").exists()


@pytest.mark.parametrize("step", [2, 50])
def test_an_interrupted_alignment_ends_like_an_uninterrupted_one(
    run, tmp_path, monkeypatch, step, interrupting
):
    arguments = (run.survey, run.spectrum, tmp_path / "align", run.recipe)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "pair_loss", interrupting(pipeline.pair_loss, step))
        with pytest.raises(KeyboardInterrupt):
            pipeline.align(*arguments, device="cpu")
    assert (tmp_path / "align" / "resume.safetensors").exists()
    with pytest.raises(ValueError, match="its training has not finished"):
        pipeline.embed(run.survey, tmp_path / "align", tmp_path / "embeddings")
    pipeline.align(*arguments, device="cpu")
    assert load(tmp_path / "align").hash() == load(run.align).hash()
    assert read_metrics(tmp_path / "align") == read_metrics(run.align)
    assert not (tmp_path / "align" / "cache").exists()


def test_an_interrupted_pretraining_ends_like_an_uninterrupted_one(
    run, tmp_path, monkeypatch, interrupting
):
    arguments = (run.survey, tmp_path / "spectrum", run.recipe)
    model = pipeline.MaskedModel
    with monkeypatch.context() as patched:
        patched.setattr(model, "loss", interrupting(model.loss, 5))
        with pytest.raises(KeyboardInterrupt):
            pipeline.pretrain_spectrum(*arguments, device="cpu")
    with monkeypatch.context() as patched:
        patched.setattr(rest, "learn_dictionary", never)
        patched.setattr(rest.RestSpace, "fit", never)
        pipeline.pretrain_spectrum(*arguments, device="cpu")
    for name in ("weights.safetensors", "dictionary.safetensors", "rest.safetensors"):
        assert (tmp_path / "spectrum" / name).read_bytes() == (run.spectrum / name).read_bytes()


def test_a_refused_start_is_corrected_in_its_folder(run, tmp_path):
    """Measures and pairs that it prepared with other settings go."""
    spectrum, out, recipe = tmp_path / "spectrum", tmp_path / "align", run.recipe
    components = replace(recipe.spectrum, rest=replace(recipe.spectrum.rest, components=2))
    large = {s: replace(getattr(recipe, s), batch_size=601) for s in ("pretrain_spectrum", "align")}
    wrong = replace(recipe, spectrum=components, **large)
    with pytest.raises(ValueError, match="do not fill a batch of 601"):
        pipeline.pretrain_spectrum(run.survey, spectrum, wrong, device="cpu")
    assert (spectrum / "rest.safetensors").exists()
    pipeline.pretrain_spectrum(run.survey, spectrum, recipe, device="cpu")
    for name in ("weights.safetensors", "dictionary.safetensors", "rest.safetensors"):
        assert (spectrum / name).read_bytes() == (run.spectrum / name).read_bytes()
    with pytest.raises(ValueError, match="do not fill a batch of 601"):
        pipeline.align(run.survey, spectrum, out, replace(recipe, **large), device="cpu")
    assert (out / "cache").exists()
    pipeline.align(run.survey, spectrum, out, recipe, device="cpu")
    assert digest(load_weights(out)) == digest(load_weights(run.align))


def test_a_survey_that_changed_under_a_run_is_refused(run, others):
    before = state(run.folder)
    with pytest.raises(ValueError, match=r"another configuration \(survey.rows: 600, not 60"):
        pipeline.pretrain_spectrum(others, run.spectrum, run.recipe)
    with pytest.raises(ValueError, match=r"another configuration \(survey.rows: 600, not 60"):
        pipeline.align(others, run.spectrum, run.align, run.recipe)
    longer = replace(run.recipe, align=replace(run.recipe.align, steps=81))
    with pytest.raises(ValueError, match=r"training.steps: 80, not 81"):
        pipeline.align(run.survey, run.spectrum, run.align, longer)
    assert state(run.folder) == before


def test_another_spectrum_tower_under_an_alignment_is_refused(run, tmp_path):
    shutil.copytree(run.spectrum, tmp_path / "spectrum")
    weights = load_weights(run.spectrum)
    weights["trunk.norm.bias"] += 1
    save_tensors(tmp_path / "spectrum" / "weights.safetensors", weights)
    with pytest.raises(ValueError, match=r"another configuration \(spectrum:"):
        pipeline.align(run.survey, tmp_path / "spectrum", run.align, run.recipe)


# --- embeddings, search


def test_embeddings_are_those_of_the_galaxies_of_each_part(run, store):
    model = load(run.align)
    for part in PARTS:
        survey = store.read(part=part)
        for modality, expected in (
            ("image", model.embed_images(survey.images, device="cpu")),
            ("spectrum", model.embed_spectra(survey.spectra, device="cpu")),
        ):
            made = Embeddings.read(run.embeddings / f"{part}-{modality}.parquet")
            assert made.ids.tolist() == survey.ids.tolist()
            assert made.model_hash == model.hash()
            cosine = (made.vectors * expected).sum(axis=1)
            assert cosine.min() > 0.99  # bfloat16 where the processor has it
            column = "age_catalogue"
            np.testing.assert_array_equal(made.columns[column], survey.columns[column])


def test_a_survey_without_a_part_is_refused_before_any_work(run, tmp_path):
    store = SurveyStore.create(tmp_path / "few.lance", SurveyStore.open(run.survey).iter("test", 2))
    with pytest.raises(ValueError, match="is in head-train, validation; add"):
        pipeline.embed(Path(store.path), run.align, tmp_path / "embeddings", device="cpu")
    assert not (tmp_path / "embeddings").exists()


def test_interrupted_embedding_keeps_what_was_done(run, tmp_path, monkeypatch, interrupting):
    with monkeypatch.context() as patched:
        embed = interrupting(pipeline.tasks.embed_survey, 2)
        patched.setattr(pipeline.tasks, "embed_survey", embed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.embed(run.survey, run.align, tmp_path, device="cpu")
    done = state(tmp_path)
    assert set(done) == {f"{PARTS[0]}-{modality}.parquet" for modality in ("image", "spectrum")}
    pipeline.embed(run.survey, run.align, tmp_path, device="cpu")
    assert done.items() <= state(tmp_path).items()
    for path in run.embeddings.glob("*.parquet"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_two_processes_do_not_embed_into_one_folder(run, tmp_path):
    other = FileLock(tmp_path / ".lock")  # as if of another process
    with other, pytest.raises(ValueError, match=f"another process is at work in {tmp_path}"):
        pipeline.embed(run.survey, run.align, tmp_path, device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_embeddings_of_other_galaxies_or_models_are_made_anew(run, others, tmp_path):
    shutil.copytree(run.embeddings, tmp_path / "embeddings")
    pipeline.embed(others, run.align, tmp_path / "embeddings", device="cpu")
    ids = SurveyStore.open(others).columns(["targetid"], "test")["targetid"]
    for modality in ("image", "spectrum"):
        made = Embeddings.read(tmp_path / "embeddings" / f"test-{modality}.parquet")
        assert made.ids.tolist() == ids.tolist()
    assert len(Index.open(tmp_path / "embeddings" / "test.lance")) == 2 * len(ids)
    replace(made, model_hash="older").write(tmp_path / "embeddings" / "test-spectrum.parquet")
    pipeline.embed(others, run.align, tmp_path / "embeddings", device="cpu")
    again = Embeddings.read(tmp_path / "embeddings" / "test-spectrum.parquet")
    assert again.model_hash == load(run.align).hash()


def test_an_evaluation_with_no_seed_is_refused_before_any_work(run, tmp_path):
    with pytest.raises(ValueError, match="seeds is 0; expected 1 or more"):
        pipeline.evaluate(run.align, run.survey, tmp_path / "report", seeds=0)
    assert not (tmp_path / "report").exists()
