"""Parameters in groups that learn and decay at their own rates."""

from typing import Any, NamedTuple

from torch import nn


class Group(NamedTuple):
    """A parameter, and what multiplies its learning rate and its weight decay."""

    parameter: nn.Parameter
    rate: float = 1.0
    decay: float = 1.0
    last_layer: bool = False  # stays for the first steps, `TrainingConfig.rest`


def matrices_decay(model: nn.Module) -> list[Group]:
    """Weight decay for matrices only; biases, norms and single vectors go without."""
    return [
        Group(parameter, decay=float(parameter.ndim > 1))
        for parameter in model.parameters()
        if parameter.requires_grad
    ]


def merged(groups: list[Group]) -> list[dict[str, Any]]:
    """One group of the optimiser for all parameters that share their factors."""
    shared: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for parameter, *factors in groups:
        shared.setdefault(tuple(factors), []).append(parameter)
    return [
        {"params": parameters, **dict(zip(Group._fields[1:], factors, strict=True))}
        for factors, parameters in shared.items()
    ]
