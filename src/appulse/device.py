"""Where tensors live, how precisely they multiply, and the fastest way that is as precise."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]
WIDE = 384  # rows and columns of a matrix from which oneDNN's products pay
EXACT = 1e-6  # largest error of a product in float32, relative to its largest number
_PRODUCTS: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_LOCK = threading.Lock()
_open, _before = 0, "none"  # scopes in which products may be rounded; torch's switch outside


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    CUDA without a number is this thread's current GPU: another thread's would be the first.

    Raises:
        ValueError: If the name is unknown, or this machine lacks the device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    kind = name.split(":")[0]
    if kind not in there:
        raise ValueError(f"device {name!r} is unknown; expected auto, cpu, cuda or mps")
    if not there[kind]:
        raise ValueError(f"this machine has no {kind} that torch {torch.__version__} can use")
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager:
    """A scope in which matrix products run in bfloat16, where that is asked for and pays.

    "auto" means bfloat16 on CUDA and on CPUs with bfloat16 instructions, float32 elsewhere. Other
    CPUs are slower in bfloat16 than in float32: they warn and stay with that.
    """
    native = _native_bfloat16(device)
    if precision == "auto":
        precision = "bfloat16" if native else "float32"
    if precision == "bfloat16" and device.type == "cpu" and not native:
        warnings.warn(
            "this CPU has no bfloat16 instructions (avx512_bf16); computing in float32, which is "
            "faster on it",
            stacklevel=2,
        )
        precision = "float32"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def fast_products(model: nn.Module) -> Iterator[None]:
    """A scope in which a wide model's float32 products on a CPU are oneDNN's instead of MKL's.

    MKL, torch's choice, takes a slow path on AMD's processors. torch uses oneDNN where float32 may
    be rounded to bfloat16, which only processors with AMX then do: where a probe against float64
    finds an error above float32's own, nothing changes, nor for small matrices, which oneDNN is
    slower at. Outside the scope torch's defaults hold.
    """
    ours = _open > 0 or _PRODUCTS.fp32_precision == "none"
    with _rounding() if ours and _is_wide(model) and _onednn_is_exact() else nullcontext():
        yield


@contextmanager
def _rounding() -> Iterator[None]:
    """A scope whose float32 products may be rounded; threads may have several at once."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    """Opens or closes a scope; the first one sets torch's switch, and the last one resets it."""
    global _open, _before
    with _LOCK:
        if _open == 0:
            _before = _PRODUCTS.fp32_precision
        _open += change
        _PRODUCTS.fp32_precision = "bf16" if _open else _before


def _is_wide(model: nn.Module) -> bool:
    return any(p.ndim == 2 and min(p.shape) >= WIDE for p in model.parameters())


@cache
def _onednn_is_exact() -> bool:
    """Whether products that may be rounded are not, of matrices and of stacks of them."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 256, 256, generator=rng, dtype=torch.float64)
    exact = x @ y
    with _rounding(), torch.autocast("cpu", enabled=False):
        products = x.float() @ y.float(), torch.stack([x[0].float() @ y[0].float()])
    errors = [(product - exact[: len(product)]).abs().max() for product in products]
    return bool(max(errors) < EXACT * exact.abs().max())


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
