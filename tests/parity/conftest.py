"""Frozen numbers of the reference implementation: a copy of the small ones, the rest in shared/."""

import json
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from appulse.align.published import Heads

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
    if last == "running_var":
        return 1 + 0.1 * n.abs()
    if n.ndim > 1:
        return n / float(np.prod(shape[1:])) ** 0.5
    return 1 + 0.1 * n if last == "weight" else 0.1 * n


def assert_parity(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal within a part of the output's scale."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    error = (ours.detach() - theirs).abs().max() / theirs.abs().max()
    assert error <= tolerance, f"error {error:.2g} of the output's scale"


ABSENT = {  # where upstream's modules live, by their place in the tree
    "": "astroclip.models.astroclip.Head",
    "backbone": "dinov2.models.vision_transformer.DinoVisionTransformer",
    "cross_attention": "astroclip.modules.CrossAttentionHead",
}


@contextmanager
def absent_packages() -> Iterator[Callable[[str], type]]:
    """Classes of packages that are importable while a file is written, and never after."""
    made: dict[str, type] = {}

    def a_class(path: str) -> type:
        module, _, name = path.rpartition(".")
        if path not in made:
            bases = (dict,) if name == "AttributeDict" else (nn.Module,)
            made[path] = type(name, bases, {"__module__": module})
            for part in accumulate(module.split("."), "{}.{}".format):
                sys.modules.setdefault(part, ModuleType(part))
            setattr(sys.modules[module], name, made[path])
        return made[path]

    before = set(sys.modules)
    try:
        yield a_class
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def write_astroclip(path: Path, state: dict[str, Tensor], heads: Any) -> Path:
    """A file as Lightning saves AstroCLIP: encoders pickled beside the state that they share.

    Without `heads` the encoders do not tell them.
    """
    with absent_packages() as a_class:
        encoders = {
            name: _module_tree(state, f"{name}.", a_class)
            for name in ("image_encoder", "spectrum_encoder")
        }
        numbers = (heads.image, heads.spectrum) if heads else ()
        for encoder, number in zip(encoders.values(), numbers, strict=False):
            encoder.backbone.num_heads = number
            encoder.cross_attention.multihead_attn.num_heads = heads.pool
        hyper = a_class("lightning.fabric.utilities.data.AttributeDict")(
            **encoders, temperature=15.5, lr=1e-4, logit_scale=np.float64(15.5)
        )
        content = {
            "epoch": 99,
            "pytorch-lightning_version": "2.3.3",
            "state_dict": OrderedDict(state),
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.7)}},
            "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}],
            "hparams_name": "kwargs",
            "hyper_parameters": hyper,
        }
        torch.save(content, path)
    return path


def _module_tree(state: dict[str, Tensor], prefix: str, a_class: Callable[[str], type]) -> Any:
    root = a_class(ABSENT[""])()
    for name in (n.removeprefix(prefix) for n in state if n.startswith(prefix)):
        module, place, (*parents, last) = root, "", name.split(".")
        for parent in parents:
            place = f"{place}.{parent}".lstrip(".")
            if parent not in module._modules:
                module.add_module(parent, a_class(ABSENT.get(place, "astroclip.modules.Part"))())
            module = module._modules[parent]
        tensor = state[prefix + name]
        module.register_parameter(last, nn.Parameter(tensor, tensor.is_floating_point()))
    return root


HEADS = Heads(image=3, spectrum=4, pool=4)  # of the tiny model


@pytest.fixture
def state(golden: Callable[[str], Golden]) -> dict[str, Tensor]:
    """Upstream's weights of the tiny model."""
    return golden("astroclip_tiny").state


@pytest.fixture
def published(state: dict[str, Tensor], tmp_path: Path) -> Path:
    """The file that they would be published in."""
    return write_astroclip(tmp_path / "astroclip.ckpt", state, HEADS)
