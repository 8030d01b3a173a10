"""AstroCLIP's published weights (Parker et al. 2024) in our towers, by renaming their tensors.

Three layouts are known: AstroCLIP itself, its spectrum transformer (SpecFormer) on its own, and a
DINOv2 teacher. The published configuration keeps what its weights were trained with, though some
of it looks like a slip: the image tower reads patches without class token and positions, and its
head has no residual.

Shapes: E token width, W head width.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..image.vit import VisionTransformerConfig
from ..spectrum.transformer import SpectrumTransformerConfig
from .checkpoint import StandIn, read_checkpoint, stored_tensors
from .head import PoolConfig
from .model import Model, ModelConfig
from .towers import ImageTowerConfig, SpectrumTowerConfig
from .unfilled import unfilled

SURVEYS = ("DESI Legacy Surveys DR9", "DESI EDR")  # what the published weights were trained on

# Upstream's names to ours, after their prefix, applied in order.
_NAMES = [
    (r"\bblocks\.(?:\d+\.)?(\d+)\.", r"blocks.\1."),  # DINOv2 stores blocks in chunks
    (r"\.(norm1|layernorm1)\.", ".norm_attention."),
    (r"\.(norm2|layernorm2)\.", ".norm_mlp."),
    (r"\.(attn\.qkv|attention\.attention)\.", ".attention.qkv."),
    (r"\.(attn\.proj|attention\.projection)\.", ".attention.project."),
    (r"\.ls1\.", ".scale_attention."),
    (r"\.ls2\.", ".scale_mlp."),
    (r"\.mlp\.(fc1|encoder)\.", ".mlp.0."),
    (r"\.mlp\.(fc2|decoder)\.", ".mlp.2."),
    (r"\.cls_token$", ".class_token"),
    (r"\.pos_embed$", ".position"),
    (r"\.patch_embed\.proj\.", ".embed_patch."),
    (r"\.data_embed\.", ".stem.embed_row."),
    (r"\.position_embed\.weight$", ".stem.position"),
    (r"\.final_layernorm\.", ".norm."),
    (r"\.cross_attention\.multihead_attn\.in_proj_(weight|bias)$", r".gather.qkv.\1"),
    (r"\.cross_attention\.multihead_attn\.([qkv])_proj_weight$", r".gather.\1.weight"),
    (r"\.cross_attention\.multihead_attn\.out_proj\.", ".gather.project."),
    (r"\.cross_attention\.layernorm\.", ".norm."),
    (r"\.cross_attention\.query$", ".query"),
]
_FLAT = ("class_token", "trunk.position", "mask_token", "query", "embed_patch.weight")


class Published(NamedTuple):
    """A published checkpoint as one of our models."""

    config: ModelConfig
    weights: dict[str, Tensor]
    unused: list[str]  # upstream's names of tensors that embedding does not need
    name: str  # of the layout


class Heads(NamedTuple):
    """Numbers of attention heads, which no tensor's shape tells."""

    image: int
    spectrum: int
    pool: int


PUBLISHED = Heads(image=16, spectrum=6, pool=4)


def load_checkpoint(path: Path) -> Model:
    """The model of a published checkpoint; see `read_published` for errors."""
    return build(read_published(path))


def build(published: Published) -> Model:
    """The model itself; it holds the checkpoint's tensors, not copies."""
    model = unfilled(published.config, SURVEYS)
    model.load_state_dict(published.weights, assign=True)
    return model.eval()


def read_published(path: Path) -> Published:
    """A published checkpoint, read safely, its tensors renamed to ours.

    Raises:
        ValueError: If it is unsafe, damaged, none of the three layouts, or if tensors are
            missing, unknown or of other shapes than the layout asks for.
    """
    content = read_checkpoint(path)
    try:
        return _recognised(content)
    except (ValueError, RuntimeError) as error:  # the second where memory is refused
        raise ValueError(f"{path}: {error}") from error


def _recognised(content: dict[str, Any]) -> Published:
    state, hyper = content.get("state_dict"), content.get("hyper_parameters")
    hyper = hyper if isinstance(hyper, Mapping) else {}
    if isinstance(content.get("teacher"), Mapping):
        return teacher(stored_tensors(content["teacher"]))
    if isinstance(state, Mapping) and "data_embed.weight" in state:
        return specformer(
            stored_tensors(state),
            PUBLISHED._replace(spectrum=_count(hyper.get("num_heads"), PUBLISHED.spectrum)),
            _count(hyper.get("slice_section_length"), 20) - _count(hyper.get("slice_overlap"), 10),
        )
    if isinstance(state, Mapping) and any(str(name).startswith("image_encoder.") for name in state):
        return astroclip(stored_tensors(state), _heads(hyper))
    found = list(state if isinstance(state, Mapping) and state else content)[:4]
    raise ValueError(
        f"no published layout: found {', '.join(map(str, found)) or 'nothing'}; expected a "
        "checkpoint of AstroCLIP, SpecFormer or a DINOv2 teacher"
    )


def astroclip(state: dict[str, Tensor], heads: Heads = PUBLISHED) -> Published:
    """AstroCLIP: both towers. Class token and positions of its image trunk are not used."""
    image = _vit(state, "image_encoder.backbone.", heads.image)
    spectrum = _specformer(state, "spectrum_encoder.backbone.", heads.spectrum, 10)
    width = _shape(state, "image_encoder.cross_attention.query", 3)[-1]
    config = ModelConfig(
        ImageTowerConfig(
            replace(image, class_token=False, positions="none"),
            PoolConfig(width, heads.pool, residual=False),
        ),
        SpectrumTowerConfig(spectrum, PoolConfig(width, heads.pool), None),
    )
    prefixes = [
        (r"^image_encoder\.backbone\.", "towers.image.trunk."),
        (r"^spectrum_encoder\.backbone\.", "towers.spectrum.trunk."),
        (r"^image_encoder\.", "towers.image.head."),
        (r"^spectrum_encoder\.", "towers.spectrum.head."),
    ]
    unused = r"image_encoder\.backbone\.(cls_token|pos_embed)|.*backbone\.head\..*|logit_scale"
    return _published("AstroCLIP", config, state, prefixes, unused)


def specformer(state: dict[str, Tensor], heads: Heads = PUBLISHED, stride: int = 10) -> Published:
    """SpecFormer: a spectrum trunk. Its head, which only masked modelling needs, is not used."""
    trunk = _specformer(state, "", heads.spectrum, stride)
    config = ModelConfig(None, SpectrumTowerConfig(trunk, None, None))
    prefixes = [(r"^", "towers.spectrum.trunk.")]
    return _published("SpecFormer", config, state, prefixes, r"head\..*")


def teacher(state: dict[str, Tensor], heads: int | None = None) -> Published:
    """A DINOv2 teacher: an image trunk, of DINOv2's 64 channels a head unless told otherwise."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    width = _shape(state, "backbone.cls_token", 3)[-1]
    if heads is None and width % 64:
        raise ValueError(f"width {width} is not a multiple of 64, so its heads cannot be told")
    trunk = _vit(state, "backbone.", heads or width // 64)
    config = ModelConfig(ImageTowerConfig(trunk, None), None)
    prefixes = [(r"^backbone\.", "towers.image.trunk.")]
    return _published("DINOv2 teacher", config, state, prefixes, r"(dino_head|ibot_head)\..*")


def _vit(state: dict[str, Tensor], prefix: str, heads: int) -> VisionTransformerConfig:
    kernel, position = f"{prefix}patch_embed.proj.weight", f"{prefix}pos_embed"
    width, _, patch, _ = _shape(state, kernel, 4)
    side = math.isqrt(_shape(state, position, 3)[1] - 1)
    _require_shape(state, kernel, (width, 3, patch, patch))
    _require_shape(state, position, (1, side**2 + 1, width))
    return VisionTransformerConfig(
        size=side * patch,
        patch=patch,
        width=width,
        depth=_depth(state, prefix),
        heads=heads,
        colours="rgb",
        positions="learned",
        class_token=True,
        layer_scale=1e-5,
        norm_eps=1e-6,
    )


def _specformer(
    state: dict[str, Tensor], prefix: str, heads: int, stride: int
) -> SpectrumTransformerConfig:
    width, row = _shape(state, f"{prefix}data_embed.weight", 2)
    if stride < 1:
        raise ValueError(f"slices start every {stride} pixels; expected at least 1")
    depth = _depth(state, prefix)
    return SpectrumTransformerConfig(row - 2, stride, width, depth, heads, stem="standard")


def _depth(state: dict[str, Tensor], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"blocks\.(?:\d+\.)?(\d+)\.")
    return len({match[1] for match in map(pattern.match, state) if match})


def _shape(state: dict[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in state or state[name].ndim != axes:
        found = tuple(state[name].shape) if name in state else "no such tensor"
        raise ValueError(f"expected a tensor {name} of {axes} axes, found {found}")
    return tuple(state[name].shape)


def _require_shape(state: dict[str, Tensor], name: str, wanted: tuple[int, ...]) -> None:
    found = tuple(state[name].shape)
    if found != wanted:
        raise ValueError(f"tensor {name} has shape {found}; expected {wanted}")


def _heads(hyper: Mapping[str, Any]) -> Heads:
    """From the modules that AstroCLIP pickles beside its weights; the published ones if absent."""
    image, spectrum = (_module(hyper.get(f"{name}_encoder")) for name in ("image", "spectrum"))
    parts = image.child("backbone"), spectrum.child("backbone"), image.child("cross_attention")
    found = (part.find("num_heads") for part in parts)
    return Heads(*map(_count, found, PUBLISHED))


def _module(found: Any) -> StandIn:
    return found if isinstance(found, StandIn) else StandIn()


def _count(found: Any, published: int) -> int:
    """A setting from the file, if it is a count that a model can have."""
    return found if isinstance(found, int) and 0 < found <= 4096 else published


def _published(
    name: str,
    config: ModelConfig,
    state: dict[str, Tensor],
    prefixes: list[tuple[str, str]],
    unused: str,
) -> Published:
    """Tensors under our names, checked against the model that they are for."""
    left = [key for key in state if re.fullmatch(unused, key)]
    weights = _renamed({k: t for k, t in state.items() if k not in left}, prefixes)
    weights["log_inverse_temperature"] = torch.tensor([math.log(config.inverse_temperature)])
    _require_bulk(config, state)
    wanted = {key: tuple(t.shape) for key, t in unfilled(config).state_dict().items()}
    found = {key: tuple(t.shape) for key, t in weights.items()}
    wrong = [
        f"{key}: found {found.get(key, 'nothing')}, expected {wanted.get(key, 'nothing')}"
        for key in sorted({*wanted, *found})
        if found.get(key) != wanted.get(key)
    ]
    if wrong:
        raise ValueError(
            f"{len(wrong)} tensors do not fit the published layout; {'; '.join(wrong[:3])}"
        )
    return Published(config, weights, left, name)


def _require_bulk(config: ModelConfig, state: dict[str, Tensor]) -> None:
    """Refuses sizes that a few small tensors claim, before a model of them fills the memory."""
    trunks = [tower.trunk for tower in (config.image, config.spectrum) if tower is not None]
    needed = sum(16 * trunk.depth * trunk.width**2 for trunk in trunks)  # of attention alone
    stored = sum(tensor.nbytes for tensor in state.values())
    if needed > stored:
        sizes = " and ".join(f"{trunk.depth} blocks of width {trunk.width}" for trunk in trunks)
        raise ValueError(f"{sizes} need {needed:,} bytes; its tensors have {stored:,}")


def _renamed(state: dict[str, Tensor], prefixes: list[tuple[str, str]]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for old, tensor in state.items():
        name = old
        for pattern, new in [*prefixes, *_NAMES]:
            name = re.sub(pattern, new, name)
        weights[name] = _flat(tensor) if name.endswith(_FLAT) else tensor
    return _split_and_joined(weights)


def _flat(tensor: Tensor) -> Tensor:
    """Without leading axes of length 1; a convolution's kernel as a matrix."""
    if tensor.ndim == 4:
        return tensor.flatten(1)
    while tensor.ndim > 1 and len(tensor) == 1:
        tensor = tensor[0]
    return tensor


def _split_and_joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`qkv` becomes `query` and `key_value`; `q`, `k` and `v` become the same."""
    done: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".qkv." in name:
            third = len(tensor) // 3
            done[name.replace(".qkv.", ".query.")] = tensor[:third]
            done[name.replace(".qkv.", ".key_value.")] = tensor[third:]
        elif ".gather.q." in name:
            done[name.replace(".q.", ".query.")] = tensor
        elif ".gather.k." in name:
            value = weights.get(name.replace(".k.", ".v."), tensor[:0])
            done[name.replace(".k.", ".key_value.")] = torch.cat([tensor, value])
        elif ".gather.v." not in name:
            done[name] = tensor
    return done
