import subprocess
from pathlib import Path

import numpy as np

from appulse.provenance import commit, provenance


def test_says_what_it_takes_to_repeat_a_result():
    about = provenance()
    assert f"numpy {np.__version__}" in about["versions"]
    assert about["time"].endswith("+00:00")
    assert all(about.values())


def test_the_commit_is_that_of_this_checkout():
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    found = commit().removesuffix("-dirty")
    assert head.startswith(found)
    assert bool(head) == bool(found)
