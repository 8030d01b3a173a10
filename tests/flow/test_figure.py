"""The figure of paths and velocities in the README is what its script draws."""

import runpy
import sys
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_figure_of_paths_is_drawn(tmp_path, monkeypatch):
    target = tmp_path / "flow.png"
    monkeypatch.setattr(sys, "argv", ["flow_paths.py", str(target)])
    runpy.run_path(str(EXAMPLES / "flow_paths.py"), run_name="__main__")
    with Image.open(target) as drawn, Image.open(EXAMPLES.parent / "docs" / "flow.png") as shown:
        assert drawn.size == shown.size
