"""The README is true: its tree is complete, its commands exist, its example runs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_tree_names_every_module():
    tree = TEXT.split("src/appulse/\n├")[1].split("```")[0]
    named = re.findall(r"(\w+\.py) ", tree)
    source = ROOT / "src" / "appulse"
    there = [path.name for path in source.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(there)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_example_runs_as_printed(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "align").symlink_to(run.align)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "true spectrum among the first ten: 0." in printed
    assert "redshifts: [" in printed
