"""Frozen numbers of the reference implementation: a copy of the small ones, the rest in shared/."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent / "golden"


class Golden(NamedTuple):
    """Tensors of a fixture, upstream's weights among them, and what made them."""

    tensors: dict[str, Tensor]
    state: dict[str, Tensor]
    config: dict[str, Any]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], Golden]:
    def read(name: str) -> Golden:
        folder = HERE
        if not (folder / f"{name}.safetensors").exists():
            folder = request.getfixturevalue("shared") / "golden"
        tensors = load_file(folder / f"{name}.safetensors")
        state = {n.removeprefix("state."): t for n, t in tensors.items() if n.startswith("state.")}
        config = json.loads((folder / f"{name}.json").read_text()).get("config", {})
        return Golden(tensors, state, config)

    return read


@pytest.fixture(scope="session")
def layout() -> dict[str, Any]:
    """Keys and shapes of the published checkpoints."""
    return json.loads((HERE / "published_layout.json").read_text())


def made_from_its_key(key: str, shape: list[int]) -> Tensor:
    """A tensor of the `_det` fixtures (shared/facts/astroclip.md, section 6)."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    n = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    last = key.rsplit(".", 1)[-1]
    if last in ("pos_embed", "cls_token", "mask_token", "query"):
        return 0.5 * n
    if last == "gamma":
        return 0.5 + 0.1 * n
    if n.ndim > 1:
        return n / np.sqrt(np.prod(shape[1:]))
    return 1 + 0.1 * n if last == "weight" else 0.1 * n


def assert_parity(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal within a part of the output's scale."""
    assert ours.shape == theirs.shape
    error = (ours.detach() - theirs).abs().max() / theirs.abs().max()
    assert error <= tolerance, f"error {error:.2g} of the output's scale"
