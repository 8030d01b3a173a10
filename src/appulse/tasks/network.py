"""Small networks on vectors: how they are built and how they learn.

Shapes: B galaxies, V for validation, D features, P targets.
"""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
BATCH = 256
EPOCHS = 100  # at most
AVERAGE = 4  # epochs that weights are averaged over, as an exponential
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
    """AdamW on `loss(net(x), y)`; ends with the averaged weights of least validation loss.

    Averages hold still where single steps jump about (Polyak and Juditsky 1992).
    """
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    steps = math.ceil(len(train[0]) / BATCH)
    decay = 1 - 1 / (1 + AVERAGE * steps)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay))
    best, best_loss, waited = copy.deepcopy(net.state_dict()), float("inf"), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train[0])).split(BATCH):
            optimizer.zero_grad()
            loss(net(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
            average.update_parameters(net)
        with torch.no_grad():
            now = loss(average.module(validation[0]), validation[1]).item()
        waited += 1
        if now < best_loss:
            best, best_loss, waited = copy.deepcopy(average.module.state_dict()), now, 0
        if waited == PATIENCE:
            break
    net.load_state_dict(best)
