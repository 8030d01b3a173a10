"""A device in name only: its tensors lie in the CPU's memory, but must not mix with the CPU's own.

What would fail on a GPU alone fails here on any machine: an operation of tensors on two devices, an
array made of a tensor that was not fetched. Run it in a process of its own, before appulse is
imported. It stands on torch's experimental support of backends in Python.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "away"
PLACE = torch.device("privateuseone", 0)  # under its first name, until it is registered
MAY_MIX = ("aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_")


class Away(torch.Tensor):
    """A tensor that says it is there, around the one that is here."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here):
        here = here.resolve_conj()  # else what is multiplied would not be the conjugate
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), dtype=here.dtype, device=PLACE, **layout
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self):
        return self.here.tolist()


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    """The operation on what is here; its results are where the inputs, or `device`, say."""
    flat, shape = tree_flatten((args, kwargs))
    away = [x for x in flat if isinstance(x, Away)]
    local = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, Away)]
    _require_one_device(operation._schema.name, away, local)
    asked = kwargs.get("device")
    goes_away = bool(away) if asked is None else torch.device(asked).type == PLACE.type
    args, kwargs = tree_unflatten([_brought(x) for x in flat], shape)
    known = {id(x.here): x for x in away} | {id(x): x for x in local}

    def sent(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known.get(id(x), Away(x) if goes_away else x)

    return tree_map(sent, operation(*args, **kwargs))


def _require_one_device(name: str, away: list[Away], local: list[torch.Tensor]) -> None:
    """As CUDA does: numbers may come from the CPU, and so may indices."""
    local = [x for x in local if x.ndim > 0]
    if away and local and name not in MAY_MIX:
        shapes = [[tuple(x.shape) for x in tensors] for tensors in (away, local)]
        raise RuntimeError(f"{name} of tensors on two devices, of shapes {shapes}")


def _brought(x: Any) -> Any:
    if isinstance(x, Away):
        return x.here
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == PLACE.type else x


class _Module(backend_registration._DummyBackendModule):
    """What torch asks a backend; it draws the CPU's random numbers."""

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        pass

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


@contextmanager
def everywhere() -> Iterator[None]:
    """A scope in which appulse, not imported before, takes this device for its accelerator.

    Batches are read by the thread that learns, as this scope is one thread's. Inference mode is
    left out: tensors made in it could not be wrapped.
    """
    global PLACE
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    PLACE = torch.device(NAME, 0)
    torch.inference_mode = torch.no_grad
    from appulse import device
    from appulse.survey import batches

    resolve = device.resolve_device
    batches.read_ahead = lambda read, order: map(read, order)
    device.resolve_device = lambda name="auto": (
        PLACE if name.split(":")[0] in ("auto", NAME) else resolve(name)
    )
    with _Everywhere():
        yield
