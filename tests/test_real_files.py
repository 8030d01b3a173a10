"""Real galaxies through the whole path; what the model says of them is another matter."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import appulse
from appulse.cli import main
from appulse.search.embeddings import Embeddings


@pytest.fixture(scope="module")
def pairs(shared):
    return shared / "data/real/pairs_legacysurvey_sdss"


def appulse_command(*arguments) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code, ended.value.code


@pytest.mark.parametrize(
    ("name", "read", "rejected"), [("spectra_desi.h5", 27, 7), ("spectra_sdss.npz", 131, 2)]
)
def test_tables_of_spectra_are_embedded(shared, run, tmp_path, name, read, rejected):
    out = tmp_path / "spectra.parquet"
    appulse_command("embed", shared / "data/real" / name, "--model", run.align, "--out", out)
    embeddings = Embeddings.read(out)
    assert embeddings.modality == "spectrum"
    assert len(embeddings) == read
    assert np.linalg.norm(embeddings.vectors, axis=1) == pytest.approx(np.ones(read), abs=1e-5)
    assert np.isfinite(embeddings.columns["spectrum_redshift"]).all()
    assert len(out.with_suffix(".rejects.csv").read_text().splitlines()) == 1 + rejected


def test_images_find_spectra_among_the_real_pairs(pairs, run, tmp_path, capsys):
    model, spectra = run.align, tmp_path / "spectra.parquet"
    appulse_command("embed", pairs / "spec-*.fits", "--model", model, "--out", spectra)
    appulse_command("index", spectra, "--out", tmp_path / "index.lance")
    capsys.readouterr()
    query = pairs / "1237648721753145376.jpeg"
    appulse_command(
        *("search", query, "--pixel-scale", 0.1, "--model", model, "--k", 14, "--json"),
        *("--index", tmp_path / "index.lance"),
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 14
    assert {row["query"] for row in found} == {"1237648721753145376"}
    assert "1237648721753145376" in {row["id"] for row in found}
    cosines = [row["cosine"] for row in found]
    assert cosines == sorted(cosines, reverse=True)
    loaded = appulse.load(model)
    image = loaded.embed_images(appulse.read_images(query, pixel_scale=0.1))
    partner = Embeddings.read(spectra)
    row = partner.ids.tolist().index(found[0]["id"])
    assert image[0] @ partner.vectors[row] == pytest.approx(cosines[0], abs=2e-4)


def test_pairs_become_a_survey_by_id(pairs, tmp_path, capsys):
    appulse_command(
        *("pair", "--images", pairs / "*.jpeg", "--spectra", pairs / "spec-*.fits"),
        *("--by", "id", "--pixel-scale", 0.1, "--out", tmp_path / "survey.lance", "--json"),
    )
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == 14
    assert not any(report[name] for name in report if name != "pairs")
    survey = appulse.SurveyStore.open(tmp_path / "survey.lance").read()
    assert survey.images.flux.shape == (14, 3, 152, 152)
    assert survey.images.mask[:, :, 0].all()  # 25.6 arcsec are padded to 40


def test_the_example_runs_on_the_real_pairs(pairs, run, monkeypatch, capsys):
    example = str(Path(__file__).resolve().parents[1] / "examples" / "real_files.py")
    monkeypatch.setattr(sys, "argv", [example, str(run.align), str(pairs)])
    runpy.run_path(example)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14
    assert all("partner ranks" in line and "of 14, redshift" in line for line in lines)
