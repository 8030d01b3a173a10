"""Small networks on vectors: how they are built and how they learn.

Shapes: B galaxies, V for validation, D features, P targets.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
BATCH = 256
EPOCHS = 100  # at most
PATIENCE = 10  # epochs without a better validation loss


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers from the first size to the last, with activations between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def learn(
    net: nn.Module,
    train: tuple[Float[Tensor, "B D"], Float[Tensor, "B P"]],
    validation: tuple[Float[Tensor, "V D"], Float[Tensor, "V P"]],
    loss: Callable[[Any, Tensor], Tensor],
) -> None:
    """AdamW on `loss(net(x), y)`; ends with the weights of the epoch of least validation loss."""
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    best, best_loss, waited = copy.deepcopy(net.state_dict()), float("inf"), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train[0])).split(BATCH):
            optimizer.zero_grad()
            loss(net(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
        with torch.no_grad():
            now = loss(net(validation[0]), validation[1]).item()
        waited += 1
        if now < best_loss:
            best, best_loss, waited = copy.deepcopy(net.state_dict()), now, 0
        if waited == PATIENCE:
            break
    net.load_state_dict(best)
