import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from appulse.training.contrastive import contrastive_loss, joint_contrastive_loss


@pytest.fixture
def pairs():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 8, generator=rng, dtype=torch.float64)


def test_matches_the_definition_written_out(pairs):
    image, spectrum = (x / x.norm(dim=1, keepdim=True) for x in pairs)
    loss = 0.0
    for i in range(5):
        across = [math.exp(15.5 * float(image[i] @ spectrum[j])) for j in range(5)]
        down = [math.exp(15.5 * float(image[j] @ spectrum[i])) for j in range(5)]
        loss -= (math.log(across[i] / sum(across)) + math.log(down[i] / sum(down))) / 10
    assert contrastive_loss(*pairs).item() == pytest.approx(loss, rel=1e-12)


def test_is_log_batch_size_when_embeddings_say_nothing():
    same = torch.ones(5, 8, dtype=torch.float64)
    assert contrastive_loss(same, same).item() == pytest.approx(math.log(5), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_ignores_length_and_order(pairs, scale):
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = contrastive_loss(*pairs)
    torch.testing.assert_close(contrastive_loss(*(scale * pairs[:, order])), expected)


def test_a_learned_temperature_gets_a_gradient(pairs):
    temperature = torch.tensor(15.5, dtype=torch.float64, requires_grad=True)
    contrastive_loss(*pairs, temperature).backward()
    step = 1e-6
    higher, lower = (contrastive_loss(*pairs, 15.5 + s).item() for s in (step, -step))
    assert temperature.grad.item() == pytest.approx((higher - lower) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("batch", ["n1", "n5", "n32"])
@pytest.mark.parametrize("inverse_temperature", [1.0, 15.5])
def test_equals_the_reference_implementation(shared, batch, inverse_temperature):
    frozen = load_file(shared / "golden/clip_loss.safetensors")
    image, spectrum = frozen[f"{batch}.image"], frozen[f"{batch}.spectrum"]
    image.requires_grad_()
    loss = contrastive_loss(image, spectrum, inverse_temperature)
    torch.testing.assert_close(loss, frozen[f"{batch}.loss_{inverse_temperature:g}"][0])
    if inverse_temperature == 15.5:
        loss.backward()
        torch.testing.assert_close(image.grad, frozen[f"{batch}.grad_image"], atol=1e-6, rtol=1e-4)


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.spectrum = nn.Linear(6, 4), nn.Linear(7, 4)
        self.inverse_temperature = nn.Parameter(torch.tensor(5.0))
        self.double()


def towers_loss(model, rows):
    image, spectrum = model.image(rows[:, :6]), model.spectrum(rows[:, 6:])
    return joint_contrastive_loss(image, spectrum, model.inverse_temperature)


def galaxies():
    return torch.randn(10, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


TWO_RANKS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from safetensors.torch import save_file
from test_contrastive import *
from appulse.training.distribution import Objective, join_ranks, parallel, rank
join_ranks()
objective = parallel(Objective(Towers(), towers_loss))
loss = objective(galaxies()[5 * rank() :][:5])
loss.backward()
found = {{name: p.grad for name, p in objective.module.model.named_parameters()}}
save_file({{**found, "loss": loss.detach()}}, sys.argv[1] + str(rank()))
"""


def test_two_ranks_have_the_loss_and_the_gradients_of_the_joint_batch(torchrun, tmp_path):
    process = torchrun(TWO_RANKS, tmp_path / "rank")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    ranks = [load_file(tmp_path / f"rank{i}") for i in range(2)]
    model = Towers()
    rows = galaxies()
    loss = contrastive_loss(
        model.image(rows[:, :6]), model.spectrum(rows[:, 6:]), model.inverse_temperature
    )
    loss.backward()
    losses = [rank.pop("loss") for rank in ranks]
    assert losses[0] != losses[1]
    torch.testing.assert_close(sum(losses) / 2, loss.detach(), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        for rank in ranks:
            torch.testing.assert_close(rank[name], parameter.grad, rtol=1e-9, atol=1e-15)


def test_alone_the_joint_loss_is_the_loss(pairs):
    assert torch.equal(joint_contrastive_loss(*pairs, 3.0), contrastive_loss(*pairs, 3.0))


def test_digits_survive_autocast(pairs):
    """Near each other in one direction, as trained towers' are, and the other way round."""
    image, spectrum = ((1 + 0.1 * x).float() for x in pairs)
    expected = contrastive_loss(image, spectrum, 80.0)
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (contrastive_loss, joint_contrastive_loss):
            assert loss(image, spectrum, 80.0) == expected
        rounded = contrastive_loss(image.bfloat16(), spectrum.bfloat16(), 80.0)
    assert rounded.dtype == torch.float32
