import copy

import torch
import torch.nn.functional as F
from torch import nn

from appulse.tasks import network


def test_the_result_is_an_average_of_the_steps(monkeypatch):
    """One step in an epoch: the second average is .8 of the first weights and .2 of the second."""
    monkeypatch.setattr(network, "EPOCHS", 2)
    torch.manual_seed(3)
    x, net = torch.randn(50, 3), nn.Linear(3, 2)
    y = x @ torch.randn(3, 2)
    by_hand = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(
        by_hand.parameters(), lr=network.LEARNING_RATE, weight_decay=network.WEIGHT_DECAY
    )
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(by_hand(x), y).backward()
        optimizer.step()
        seen.append(by_hand.weight.detach().clone())
    network.learn(net, (x, y), (x, y), F.mse_loss)
    torch.testing.assert_close(net.weight.detach(), 0.8 * seen[0] + 0.2 * seen[1])
