"""Imports point down the layers, and heavy libraries stay in their places."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "appulse"
RANKS = [
    {
        *("units", "transformer", "metrics", "figures", "files", "device", "progress"),
        *("provenance", "counts", "locks", "digest", "processes"),
    },
    {"flow", "training", "survey"},
    {"image", "spectrum", "inference", "search"},
    {"align"},
    {"tasks"},
    {"evaluate"},
    {"recipes", "observations", "queries", "posteriors", "evaluation"},
    {"pipeline"},
    {"cli", "web"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
PLACES = {  # library: where it may be imported
    "lance": ("survey/store", "search/index"),
    "torch.distributed": ("training/",),
    "astropy.io": ("survey/",),
    "h5py": ("survey/",),
    "urllib3": ("survey/download",),
    "matplotlib": ("figures", "evaluate/"),
    "rich": ("progress", "cli"),
    "filelock": ("locks",),
    "multiprocessing": ("processes", "evaluate/workers"),
    "cyclopts": ("cli",),
    "qp": ("inference/rail",),
}
MODULES = [p for p in sorted(SOURCE.rglob("*.py")) if p.name != "__init__.py"]


def imported(path: Path) -> list[str]:
    """Absolute names of the modules that a file imports, at any depth of nesting."""
    package = ["appulse", *path.relative_to(SOURCE).parts[:-1]]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def test_every_top_level_name_has_a_rank():
    names = {p.relative_to(SOURCE).parts[0].removesuffix(".py") for p in MODULES}
    assert names <= set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("appulse."):
            other = name.split(".")[1]
            assert other == own or RANK[other] < RANK[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_libraries_stay_in_their_places(path):
    here = str(path.relative_to(SOURCE))
    for name in imported(path):
        for library, places in PLACES.items():
            if f"{name}.".startswith(f"{library}."):
                assert here.startswith(places), f"{here} imports {library}"
