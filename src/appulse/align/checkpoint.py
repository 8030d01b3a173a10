"""Reading torch checkpoints that strangers made: nothing in the file runs.

AstroCLIP's checkpoint pickles whole modules beside its weights. torch's weights-only loader builds
tensors and plain containers alone; a class of the packages below becomes an inert stand-in that
keeps its attributes, and any other name is refused, wherever in the file it hides.
"""

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIMIT = 16 * 2**30  # bytes of a checkpoint
PICKLE_LIMIT = 64 * 2**20  # bytes of its pickle, which holds no tensor
ABSENT = (
    "astroclip.",
    "dinov2.",
    "lightning.",
    "pytorch_lightning.",
    "omegaconf.",
    "numpy.",
    "torch.nn.",
)
MAPPINGS = ("AttributeDict", "DictConfig")  # dictionaries: stand-ins for them are dictionaries


class StandIn:
    """An object whose class is absent: its attributes, and nothing that could act."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "StandIn":
        """Takes whatever the absent class took."""
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any):
        self.attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, Mapping) else {}

    def find(self, name: str) -> Any:
        """The attribute of that name of this module or the first one inside it, or None."""
        for module in self._modules():
            if name in module.attributes:
                return module.attributes[name]
        return None

    def child(self, name: str) -> "StandIn":
        """The submodule of that name; one without attributes if there is none."""
        return self._children().get(name, StandIn())

    def _children(self) -> dict[str, "StandIn"]:
        modules = self.attributes.get("_modules")
        items = modules.items() if isinstance(modules, Mapping) else ()
        return {name: module for name, module in items if isinstance(module, StandIn)}

    def _modules(self) -> Iterator["StandIn"]:
        waiting: list[StandIn] = [self]
        seen: set[int] = set()  # a file may have a module in many places, also inside itself
        while waiting:
            module = waiting.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                waiting += reversed(module._children().values())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a torch checkpoint holds, tensors on the CPU, with stand-ins for absent classes.

    Raises:
        ValueError: If it is no whole torch file, is too large, or asks for anything to be run.
    """
    _require_sane(path)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # a damaged or hostile pickle fails in any way it likes
        raise ValueError(f"{path} is damaged: {error}") from error
    stand_ins = _stand_ins(path, names)
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged, or unsafe to load: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a checkpoint, a dict")
    return content


def stored_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state, each as many numbers as it stores; float32, and not a parameter.

    Raises:
        ValueError: If one is empty, not of floating-point numbers, or claims more than it stores.
    """
    tensors = {str(name): t.detach() for name, t in state.items() if isinstance(t, Tensor)}
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.is_floating_point()
        if not plain or not 0 < tensor.nbytes <= tensor.untyped_storage().nbytes():
            raise ValueError(
                f"tensor {name} is {tensor.dtype}, {tensor.layout}, of shape "
                f"{tuple(tensor.shape)}; expected stored floating-point numbers"
            )
    kinds = {tensor.dtype for tensor in tensors.values()} - {torch.float32}
    if kinds:
        warnings.warn(
            f"weights are {', '.join(map(str, kinds))}; they are used as float32 and do not give "
            "the published numbers to full precision",
            stacklevel=2,
        )
    return {name: tensor.float() for name, tensor in tensors.items()}


def _stand_ins(
    path: Path, names: list[str]
) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    refused = [name for name in names if not name.startswith(ABSENT)]
    if refused:
        raise ValueError(
            f"{path} asks for {', '.join(sorted(refused)[:3])}, which could run code; expected "
            f"tensors and classes of {', '.join(name.rstrip('.') for name in ABSENT)} only: do "
            "not trust this file"
        )
    return [
        (OrderedDict if name.endswith(MAPPINGS) else type(name, (StandIn,), {}), name)
        for name in names
    ]


def _require_sane(path: Path) -> None:
    """Sizes are looked at before anything is read; members are stored, never packed."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no torch checkpoint (a zip archive), or is cut short; download it again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            _require_stored(path, archive.infolist())
            damaged = archive.testzip()  # torch reads tensors without looking at their checksums
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:  # the last of encrypted members
        raise ValueError(f"{path} is damaged: {error}; download it again") from error
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged} has a wrong checksum; download it again")


def _require_stored(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = path.stat().st_size
    total = sum(member.file_size for member in members)
    if total > min(size, LIMIT):
        raise ValueError(
            f"{path} of {size:,} bytes unpacks to {total:,}; expected no more than the file's own "
            f"size and {LIMIT:,} (appulse.align.checkpoint.LIMIT)"
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"{path} holds packed members; expected stored ones, as torch writes them")
    pickles = [member for member in members if member.filename.endswith("data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > PICKLE_LIMIT:
        raise ValueError(
            f"{path} holds {len(pickles)} pickles of {sum(p.file_size for p in pickles):,} bytes; "
            f"expected one of at most {PICKLE_LIMIT:,}: this is no torch checkpoint"
        )
