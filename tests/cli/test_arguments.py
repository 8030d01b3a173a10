"""What the command line says before it does anything."""

import subprocess
import sys

import pytest

import appulse
from appulse.cli import main


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


def test_finetune_takes_files_or_a_survey():
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "t.parquet", "--target", "a", "--model", "m", "--out", "o"])
    assert ended.value.code == "appulse: give --files or --survey; one of them"


@pytest.mark.parametrize("files", [[], ["a.fits", "--survey", "s.lance"]])
def test_embed_takes_files_or_a_survey(files):
    with pytest.raises(SystemExit) as ended:
        main(["embed", *files, "--model", "m", "--out", "o"])
    assert ended.value.code == "appulse: give files to embed, or --survey; one of them"
