from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from appulse.spectrum.causal import CausalModel
from appulse.spectrum.masked import WEIGHT_LIMIT
from appulse.spectrum.transformer import SpectrumTransformerConfig
from appulse.survey.spectra import Spectra

CONFIG = SpectrumTransformerConfig(
    patch=200, stride=100, width=32, depth=2, heads=4, stem="weighted", causal=True
)


def spectra(n=4, seed=0):
    rng = np.random.default_rng(seed)
    return Spectra.from_arrays(2 + rng.normal(size=(n, 7781)), ivar=np.full(7781, 100.0))


@pytest.fixture(scope="module", params=["weighted", "standard"])
def model(request):
    torch.manual_seed(0)
    return CausalModel(replace(CONFIG, stem=request.param))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_prediction_sees_a_pixel_of_its_own_patch_or_of_redder_ones(model, precision):
    patches = model.trunk.read(spectra())
    for at in (0, 5, 40):
        pixels = slice((at + model.ahead) * CONFIG.stride, None)
        row = torch.arange(patches.flux.shape[1])
        seen = row[:, None] * CONFIG.stride + torch.arange(patches.flux.shape[2]) < pixels.start
        if model.trunk.config.stem == "standard":
            seen = row[:, None].expand(-1, patches.flux.shape[2]) <= at
        spoilt = patches._replace(flux=torch.where(seen, patches.flux, 99.0))
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            one, other = model(patches), model(spoilt)
        torch.testing.assert_close(one[:, : at + 1], other[:, : at + 1])
        assert not torch.allclose(one[:, at + model.ahead :], other[:, at + model.ahead :])


def test_the_loss_is_the_weighted_error_of_later_patches_written_out(model):
    patches = model.trunk.read(spectra())
    predicted, top, bottom = model(patches), 0.0, 0.0
    for t in range(predicted.shape[1]):
        weight = patches.weight[:, t + model.ahead].clamp(max=WEIGHT_LIMIT)
        error = (predicted[:, t] - patches.flux[:, t + model.ahead]) ** 2
        top, bottom = top + (weight * error).sum(), bottom + weight.sum()
    torch.testing.assert_close(model.loss(spectra()), top / bottom)
    assert model.validate(spectra())["validation_loss"] == pytest.approx((top / bottom).item())


def test_training_learns_what_the_past_tells():
    """Slopes differ from row to row, so only the bluer patches can tell the redder ones."""
    rng = np.random.default_rng(1)
    slope = rng.uniform(-1, 1, (64, 1)) * np.linspace(-1, 1, 7781)
    sloped = Spectra.from_arrays(
        5 + 3 * slope + rng.normal(0, 0.1, (64, 7781)), ivar=np.full(7781, 100.0)
    )
    torch.manual_seed(0)
    model = CausalModel(replace(CONFIG, patch=200, stride=200))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model.loss(sloped)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.1 * losses[0]


def test_all_that_learns_takes_part_in_the_loss(model):
    """As data parallelism needs it."""
    model.loss(spectra()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad == (name != "trunk.stem.mask_token")


TWO_RANKS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_causal import *
from appulse.training.distribution import join_ranks, rank
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder
join_ranks()
batches = lambda step: (spectra(seed=2 * i + rank()) for i in range(step, 3))
config = TrainingConfig(steps=3, batch_size=8, warmup=1)
loss = lambda model, batch: model.loss(batch)
train(CausalModel(CONFIG), loss, batches, config, RunFolder(sys.argv[1], {{}}), device="cpu")
"""


def test_two_ranks_train(torchrun, tmp_path):
    process = torchrun(TWO_RANKS, tmp_path / "run")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_a_transformer_that_sees_the_answer_is_refused():
    with pytest.raises(ValueError, match="expected a causal transformer"):
        CausalModel(replace(CONFIG, causal=False))
