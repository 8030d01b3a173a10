"""`demo` and `evaluate`, on a run that was stopped before its report."""

import shutil

import pytest

from appulse import evaluation, pipeline
from appulse.cli import main
from appulse.evaluate import rows
from appulse.evaluate.results import read_results

from .conftest import stdout_of


@pytest.fixture(scope="module")
def demo(run, recipe, tmp_path_factory):
    """A folder of `demo` whose stages up to the embeddings were done before."""
    folder = tmp_path_factory.mktemp("demo") / "<img src=x onerror=alert(1)>"
    shutil.copytree(run.folder, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "tiny", lambda: recipe)
        with pytest.raises(SystemExit):
            main(["demo", "--out", str(folder), "--n", "600", "--seed", "3"])
    return folder


def test_demo_goes_on_and_ends_with_a_report(demo, run):
    for name in ("spectrum/weights.safetensors", "align/weights.safetensors"):
        assert (demo / name).stat().st_mtime_ns == (run.folder / name).stat().st_mtime_ns
    html = (demo / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert html.count("data:image/svg+xml;base64,") == 16
    for method in ("appulse, MLP probe", "apertures, boosting", "template cross-correlation"):
        assert method in html
    assert "This model was trained on simulated galaxies only." in html
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_the_results_are_plausible(demo):
    """Chance is .23 for top-10 and 0 for R²."""
    results = read_results(demo / "results.json")
    scores = {(r.method, r.modality, r.target, r.metric): r.value for r in results}
    for direction in ("image → spectrum", "spectrum → image"):
        assert scores["appulse", direction, "partner", "top-10"] > 0.6
    assert scores["appulse, MLP probe", "spectrum", "redshift", "R²"] > 0.3
    assert scores["appulse, redshift coordinate", "spectrum", "redshift", "within .003"] > 0.6
    assert scores["template cross-correlation", "spectrum", "redshift", "within .003"] > 0.8


def test_evaluate_goes_on_with_what_is_there(capsys, tmp_path, demo, run, recipe, monkeypatch):
    """Rows of the demo are not done again and give the same scores; posteriors' are added."""
    out = tmp_path / "report"
    shutil.copytree(demo / "rows", out / "rows")
    shutil.copytree(run.embeddings, out / "embeddings")
    shutil.copytree(demo / "posterior", out / "posterior-0")
    monkeypatch.setattr(pipeline, "tiny", lambda: recipe)
    write, written = rows.write_row, []
    monkeypatch.setattr(rows, "write_row", lambda p, row: [written.append(p.name), write(p, row)])
    arguments = (run.align, "--survey", run.survey, "--out", out, "--quick", "--seeds", 1)
    curves = ("--run.alignment", run.align)
    printed = stdout_of(capsys, "evaluate", *arguments, *curves, "--device", "cpu")
    assert printed == f"{out / 'report.html'}\n"
    assert len(written) == 5
    assert all("flow" in name for name in written)
    results = read_results(out / "results.json")
    assert {r.metric for r in results} >= {"NLL", "CRPS"}
    assert set(read_results(demo / "results.json")) <= set(results)
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "Learning curves" in html
    assert "Spectra generated" not in html
    assert {p.suffix for p in (out / "figures").iterdir()} == {".png", ".pdf"}


def test_several_processes_make_the_same_results(tmp_path, demo, run):
    shutil.copytree(demo / "rows", tmp_path / "rows")
    for path in (tmp_path / "rows").glob("*ridge*"):
        path.unlink()
    evaluation.evaluate(
        *(run.align, run.survey, run.embeddings, tmp_path),
        quick=True,
        seeds=1,
        device="cpu",
        processes=2,
    )
    names = [{path.name for path in (folder / "rows").iterdir()} for folder in (tmp_path, demo)]
    assert names[0] == names[1]
    two, one = (
        {
            (r.method, r.modality, r.target, r.metric, r.n_train): r.value
            for r in read_results(folder / "results.json")
        }
        for folder in (tmp_path, demo)
    )
    assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
