import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import appulse
from appulse import evaluation, pipeline, recipes
from appulse.align.load import load
from appulse.cli import main
from appulse.evaluate import rows
from appulse.evaluate.results import read_results
from appulse.inference.fitting import FitConfig
from appulse.search.embeddings import Embeddings
from appulse.tasks import anomaly
from appulse.training.run import load_weights, read_metrics


@pytest.mark.parametrize(
    "code", ["import appulse", "from appulse.cli import main; main(['--help'])"]
)
def test_starting_imports_no_heavy_library(code):
    check = f"""
import sys
try:
    {code}
except SystemExit:
    pass
heavy = {{"torch", "astropy", "lance", "sklearn", "matplotlib", "scipy", "pyarrow"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)


def test_every_public_name_is_there():
    for name in appulse.__all__:
        assert getattr(appulse, name) is not None
    with pytest.raises(AttributeError, match="appulse has no 'nothing'; it has Images"):
        appulse.nothing  # noqa: B018


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "simulate", "fetch", "pair", "label", "align", "embed", "index", "search"),
        *("evaluate", "pretrain", "finetune", "predict", "anomaly", "posterior", "infer"),
    ],
)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"appulse {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_the_help_says_where_rejects_go(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help = capsys.readouterr().out.replace("│", " ")
    assert "beside --out, as NAME.rejects.csv, if left out" in " ".join(help.split())


@pytest.mark.parametrize("command", [["pretrain"], ["pretrain", "image"], ["align"]])
def test_training_says_how_to_use_several_gpus(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "torchrun --nproc-per-node=2 -m appulse" in " ".join(capsys.readouterr().out.split())


def test_errors_are_one_line_without_a_traceback(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["align", "--survey", str(tmp_path / "no.lance"), "--spectrum", "a", "--out", "b"])
    assert str(ended.value.code).startswith("appulse: no survey store at")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--n", "-5"), "n is -5"), (("--n", "5", "--processes", "0"), "processes is 0")],
)
def test_nonsense_is_refused_before_a_survey_is_made(tmp_path, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments, "--out", str(tmp_path / "s.lance")])
    assert str(ended.value.code).startswith(f"appulse: {message}")
    assert not (tmp_path / "s.lance").exists()


@pytest.mark.parametrize("command", ["pair", "embed", "index", "search", "finetune", "predict"])
def test_no_option_makes_a_list_empty(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--empty" not in capsys.readouterr().out


# --- end to end, on a run of `demo` that was stopped before its report


def stdout_of(capsys, *arguments) -> str:
    """What the command prints on stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code, ended.value.code
    return capsys.readouterr().out


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


def test_finetune_takes_files_or_a_survey():
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "t.parquet", "--target", "a", "--model", "m", "--out", "o"])
    assert ended.value.code == "appulse: give --files or --survey; one of them"


@pytest.mark.parametrize("files", [[], ["a.fits", "--survey", "s.lance"]])
def test_embed_takes_files_or_a_survey(files):
    with pytest.raises(SystemExit) as ended:
        main(["embed", *files, "--model", "m", "--out", "o"])
    assert ended.value.code == "appulse: give files to embed, or --survey; one of them"


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


TORCHRUN = """
import pickle, runpy, sys
from pathlib import Path
from appulse import recipes

recipe = pickle.loads(Path(sys.argv.pop(1)).read_bytes())
recipes.tiny = lambda: recipe
runpy.run_module("appulse", run_name="__main__")
"""


def test_two_ranks_pretrain_and_go_on_after_ctrl_c(run, torchrun, tmp_path):
    """As `torchrun --nproc-per-node=2 -m appulse pretrain image`, with a smaller recipe."""
    training = replace(run.recipe.pretrain_image, steps=30, log_every=1)
    (tmp_path / "recipe").write_bytes(pickle.dumps(replace(run.recipe, pretrain_image=training)))
    out = tmp_path / "image"
    arguments = (tmp_path / "recipe", "pretrain", "image", "--device", "cpu")
    process = torchrun(TORCHRUN, *arguments, "--survey", run.survey, "--out", out)
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert errors.count("interrupted; run the same command again to go on") == 2
    assert (out / "resume.safetensors").exists()
    assert not (out / "weights.safetensors").exists()

    process = torchrun(TORCHRUN, *arguments, "--survey", run.survey, "--out", out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    steps = [line["step"] for line in read_metrics(out) if "loss" in line]
    assert steps == list(range(1, 31))
    assert load_weights(out)["step"] == 30


IN_SHARDS = """
import pickle, sys
from dataclasses import replace
from pathlib import Path
from appulse.pipeline import align, pretrain_image, pretrain_spectrum

recipe = pickle.loads(Path(sys.argv[1]).read_bytes())
survey, out = Path(sys.argv[2]), Path(sys.argv[3])

def briefly(training, sharding, speed):
    rate = speed * training.learning_rate
    brief = {"steps": 4, "validate_every": 4, "precision": "float32"}
    return replace(training, sharding=sharding, learning_rate=rate, **brief)

for kind, *how in (("whole", "replicate", 1), ("parts", "shard", 1), ("start", "replicate", 0)):
    stages = ("pretrain_spectrum", "pretrain_image", "align")
    brief = replace(recipe, **{s: briefly(getattr(recipe, s), *how) for s in stages})
    pretrain_spectrum(survey, out / kind / "spectrum", brief, device="cpu")
    pretrain_image(survey, out / kind / "image", brief, device="cpu")
    align(survey, out / "whole" / "spectrum", out / kind / "align", brief, device="cpu")
"""


def test_every_stage_trains_in_shards_as_with_whole_models(run, torchrun, tmp_path):
    """Up to rounding, which AdamW and KoLeo make much of where a gradient is nearly 0."""
    (tmp_path / "recipe").write_bytes(pickle.dumps(run.recipe))
    process = torchrun(IN_SHARDS, tmp_path / "recipe", run.survey, tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for stage in ("spectrum", "image", "align"):
        kinds = ("whole", "parts", "start")
        whole, parts, start = (load_weights(tmp_path / kind / stage) for kind in kinds)
        assert list(whole) == list(parts)
        for name, tensor in whole.items():
            apart, moved = ((tensor - other[name]).double().norm() for other in (parts, start))
            assert apart <= 0.1 * moved, (stage, name)
