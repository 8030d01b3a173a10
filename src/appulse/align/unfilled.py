"""Models without initial weights, for weights from a file to take their place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .model import Model, ModelConfig


def unfilled(config: ModelConfig, trained_on: Sequence[str] = ()) -> Model:
    """A model whose weights are yet to come from a file."""
    with torch.random.fork_rng(devices=[]), _Untouched():
        return Model(config, trained_on)


class _Untouched(TorchFunctionMode):
    """A scope in which matrices of new modules stay as they come from memory, untouched.

    torch's meta device does the same, but its first use imports torch's compiler for half a second.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the function, unless it draws a layer's initial weights."""
        kwargs = kwargs or {}
        if function in (nn.init.kaiming_uniform_, nn.init.uniform_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
