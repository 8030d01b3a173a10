"""Where tensors live and how precisely they multiply."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: If the name is unknown, or this machine lacks the device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    kind = name.split(":")[0]
    if kind not in there:
        raise ValueError(f"device {name!r} is unknown; expected auto, cpu, cuda or mps")
    if not there[kind]:
        raise ValueError(f"this machine has no {kind} that torch {torch.__version__} can use")
    return torch.device(name)


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager:
    """A scope in which matrix products run in bfloat16, where that is asked for and pays.

    "auto" means bfloat16 on CUDA and on CPUs with bfloat16 instructions, float32 elsewhere.
    """
    if precision == "auto":
        precision = "bfloat16" if _native_bfloat16(device) else "float32"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
