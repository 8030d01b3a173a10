import math

import pytest
import torch
from safetensors.torch import load_file

from appulse.align.contrastive import contrastive_loss


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
