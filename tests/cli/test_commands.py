"""Commands from files to files, with the model of one small run."""

import json
import signal
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import appulse
from appulse import pipeline, recipes
from appulse.align.load import load
from appulse.cli import main
from appulse.inference.fitting import FitConfig
from appulse.search.embeddings import Embeddings
from appulse.tasks import anomaly

from .conftest import stdout_of


def test_training_from_the_command_line(capsys, tmp_path, run, recipe, monkeypatch):
    """Same survey, same recipe, same weights as from Python."""
    monkeypatch.setattr(recipes, "tiny", lambda: recipe)
    survey = tmp_path / "survey.lance"
    simulate = ("simulate", "--out", survey, "--seed", 3, "--size", 64, "--processes", 1)
    assert stdout_of(capsys, *simulate, "--n", 200) == f"200 galaxies in {survey}\n"
    assert stdout_of(capsys, *simulate, "--n", 600) == f"600 galaxies in {survey}\n"
    spectrum, align = tmp_path / "spectrum", tmp_path / "align"
    out = stdout_of(capsys, "pretrain", "spectrum", "--survey", survey, "--out", spectrum)
    assert out == f"{spectrum}\n"
    arguments = ("--survey", survey, "--spectrum", spectrum, "--out", align)
    assert stdout_of(capsys, "align", *arguments, "--device", "cpu") == f"{align}\n"
    assert load(align).hash() == load(run.align).hash()


def test_embed_index_and_search_of_files(capsys, tmp_path, run, files):
    images, spectra = tmp_path / "images.parquet", tmp_path / "spectra.parquet"
    model, rejects = ("--model", run.align), ("--rejects", tmp_path / "bad.csv")
    paths = [*files.cutouts, files.broken]
    told = stdout_of(capsys, "embed", *paths, *model, "--out", images, *rejects)
    assert told == f"10 rows in {images}; 1 rejected, see {tmp_path / 'bad.csv'}\n"
    assert "hello" in (tmp_path / "bad.csv").read_text()
    stdout_of(capsys, "embed", files.coadd, *model, "--out", spectra)
    index = tmp_path / "i.lance"
    out = stdout_of(capsys, "index", images, spectra, "--out", index)
    assert out == f"20 rows in {index}\n"

    search = ("search", files.cutouts[4], *model, "--index", index)
    found = json.loads(stdout_of(capsys, *search, "--k", 20, "--json"))
    image, spectrum = (Embeddings.read(path) for path in (images, spectra))
    cosine = {
        id: float(image.vectors[4] @ vector)
        for embeddings in (image, spectrum)
        for id, vector in zip(embeddings.ids, embeddings.vectors, strict=True)
    }
    assert [f["id"] for f in found] == sorted(cosine, key=cosine.get, reverse=True)
    for f in found:
        assert f["query"] == "galaxy-04"
        assert f["cosine"] == pytest.approx(cosine[f["id"]], abs=1e-4)
    where = ("--where", "modality = 'spectrum'", "--k", 1)
    (best,) = json.loads(stdout_of(capsys, *search, *where, "--json"))
    assert best["id"] == max(spectrum.ids, key=cosine.get)
    assert best["id"] in stdout_of(capsys, *search, *where)


def test_embed_a_survey(capsys, tmp_path, run):
    out = stdout_of(
        capsys, "embed", "--survey", run.survey, "--model", run.align, "--out", tmp_path / "e"
    )
    assert out == f"{tmp_path / 'e'}\n"
    names = {path.name for path in (tmp_path / "e").iterdir()}
    assert names == {path.name for path in run.embeddings.iterdir()}
    for path in run.embeddings.glob("*.parquet"):
        assert (tmp_path / "e" / path.name).read_bytes() == path.read_bytes()


def test_own_labels_and_odd_galaxies(capsys, tmp_path, run, store, files, monkeypatch):
    rows = store.rows("head-train")[:60]
    table = {name: store.take(rows, [name])[name] for name in ("targetid", "morphology_true")}
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    tuned = tmp_path / "tuned"
    learn = ("finetune", tmp_path / "labels.parquet", "--target", "morphology_true", "--json")
    source = ("--model", run.align, "--survey", run.survey, "--out", tuned)
    scores = json.loads(stdout_of(capsys, *learn, *source))
    assert scores["galaxies"] == 60
    assert set(scores["accuracy"]) == {"value", "low", "high"}
    out = tmp_path / "said.parquet"
    said = stdout_of(capsys, "predict", *files.cutouts, "--model", tuned, "--out", out)
    assert said == f"10 rows in {out}\n"
    kinds = pq.read_table(out)["morphology_true"].to_pylist()
    assert set(kinds) <= set(table["morphology_true"])

    monkeypatch.setattr(anomaly, "FIT", replace(anomaly.FIT, fit=FitConfig(steps=30)))
    paths = [run.embeddings / f"{part}-spectrum.parquet" for part in ("test", "head-train")]
    odd = ("anomaly", paths[0], "--reference", paths[1], "--out", tmp_path / "odd.fits", "--json")
    first = json.loads(stdout_of(capsys, *odd))
    assert len(first) == 10
    products = [row["distance_chance"] * row["density_chance"] for row in first]
    assert products == sorted(products)


def test_pair(capsys, tmp_path, files):
    arguments = [
        *("pair", "--images", *files.cutouts, files.broken, "--spectra", files.coadd),
        *("--size", 64, "--rejects", tmp_path / "bad.csv"),
    ]
    report = json.loads(stdout_of(capsys, *arguments, "--out", tmp_path / "s.lance", "--json"))
    assert report["pairs"] == 8
    assert report["unmatched_images"] == ["galaxy-00", "galaxy-01"]
    assert [reject["file"] for reject in report["rejected"]] == [str(files.broken)]
    assert "hello" in (tmp_path / "bad.csv").read_text()
    by_id = [*arguments, "--by", "id", "--out", tmp_path / "t.lance"]
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in by_id])
    assert ended.value.code.startswith("appulse: no pair among 10 images and 10 spectra")
    shown = stdout_of(capsys, *arguments, "--out", tmp_path / "u.lance", "--radius", 0.5)
    assert "'pairs': 8" in shown


def test_label(capsys, tmp_path, files):
    survey, table = tmp_path / "s.lance", tmp_path / "labels.csv"
    stdout_of(
        *(capsys, "pair", "--images", *files.cutouts, "--spectra", files.coadd),
        *("--size", 64, "--out", survey),
    )
    table.write_text("TARGETID,Z_HP,LOG_MSTAR\n1003,0.1,10.5\n1002,0.2,11.5\n99,0.3,9\n")
    arguments = ("label", "--survey", survey, "--table", table, "--columns", "log_mstar", "--json")
    report = json.loads(stdout_of(capsys, *arguments))
    assert report == {
        "labelled": 2,
        "unmatched": [str(1000 + i) for i in range(4, 10)],
        "ambiguous": [],
        "duplicate_rows": [],
        "unused_rows": 1,
        "columns": ["log_mstar"],
    }
    labelled = appulse.SurveyStore.open(survey).columns(
        ["targetid", "log_mstar"], where="log_mstar > 0"
    )
    assert dict(zip(*labelled.values(), strict=True)) == {"1002": 11.5, "1003": 10.5}
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert (
        ended.value.code == "appulse: the store has log_mstar already; leave them out (--columns)"
    )


def test_ctrl_c_says_how_to_go_on(tmp_path, run, recipe, monkeypatch):
    monkeypatch.setattr(recipes, "tiny", lambda: recipe)
    loss = pipeline.pair_loss

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return loss(*args)

    monkeypatch.setattr(pipeline, "pair_loss", interrupted)
    arguments = ("--survey", run.survey, "--spectrum", run.spectrum, "--out", tmp_path / "align")
    with pytest.raises(SystemExit) as ended:
        main(["align", *(str(argument) for argument in arguments)])
    assert ended.value.code == "interrupted; run the same command again to go on"
