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
    ["demo", "simulate", "pair", "align", "embed", "index", "search", "evaluate", "pretrain"],
)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"appulse {command}" in capsys.readouterr().out


def test_errors_are_one_line_without_a_traceback(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["align", "--survey", str(tmp_path / "no.lance"), "--spectrum", "a", "--out", "b"])
    assert str(ended.value.code).startswith("appulse: no survey store at")
