"""Shapes and types are checked in every test; randomness is fixed."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("appulse", "beartype.beartype")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and frozen reference numbers, beside the repository; never shipped."""
    path = Path(__file__).resolve().parents[1].parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no reference data at {path}")
    return path
