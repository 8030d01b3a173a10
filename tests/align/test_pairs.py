import math

import numpy as np
import pytest
import torch

from appulse.align.pairs import Pairs, cache_pairs, pair_loss, retrieval, take_pairs
from appulse.image.preprocess import ImageInputs


@pytest.fixture
def pairs(model, galaxies):
    """The galaxies, straight from the towers."""
    image = model.image.prepare(galaxies.images)
    spectrum = model.spectrum.prepare(galaxies.spectra)
    with torch.no_grad():
        return Pairs(image, spectrum.features, model.spectrum.tokens(spectrum))


def loss_by_hand(image, spectrum, inverse_temperature):
    """Symmetric InfoNCE of unit vectors in float64."""
    logits = inverse_temperature * image.astype(np.float64) @ spectrum.T.astype(np.float64)

    def cross_entropy(rows):
        return -np.mean([row[i] - np.log(np.exp(row).sum()) for i, row in enumerate(rows)])

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def test_the_loss_is_that_of_the_embeddings_of_turned_images(model, galaxies, pairs):
    flux = galaxies.images.flux
    turned = [np.rot90(f, k, (2, 3)) for f in (flux, flux[..., ::-1]) for k in range(4)]
    spectrum = model.embed_spectra(galaxies.spectra, device="cpu")
    expected = [
        loss_by_hand(
            model.embed_images(f, device="cpu"), spectrum, model.inverse_temperature.item()
        )
        for f in turned
    ]
    assert np.ptp(expected) > 1e-3  # the network tells them apart
    seen = set()
    with torch.no_grad():
        for seed in range(30):
            torch.manual_seed(seed)
            loss = pair_loss(model, pairs).item()
            error = np.abs(np.array(expected) - loss)
            assert error.min() < 1e-4
            seen.add(int(error.argmin()))
    assert len(seen) > 4


def test_the_gradient_reaches_all_that_learns_and_nothing_else(model, pairs):
    model.spectrum.trunk.requires_grad_(False)
    model.train()
    pair_loss(model, pairs).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("towers.spectrum.trunk.") or name.endswith("mask_token"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_cache_holds_what_the_towers_say(model, store, tmp_path):
    """In the store's order; image flux as float16, tokens as bfloat16."""
    cache = cache_pairs(tmp_path / "cache", model, store, "validation", "cpu", "float32")
    survey = store.read(part="validation")
    image = model.image.prepare(survey.images)
    spectrum = model.spectrum.prepare(survey.spectra)
    with torch.no_grad():
        tokens = model.spectrum.tokens(spectrum)
    assert len(cache) == len(survey)
    everything = np.arange(len(survey))
    for rows in (slice(None), everything[::-1], np.array([5, 2, 2])):
        pairs = take_pairs(cache, rows, torch.device("cpu"))
        index = torch.from_numpy(everything[rows].copy())
        for name in ImageInputs._fields:
            cached, fresh = getattr(pairs.image, name), getattr(image, name)[index]
            torch.testing.assert_close(cached, fresh, rtol=2**-11, atol=1e-7)
        torch.testing.assert_close(pairs.features, spectrum.features[index])
        torch.testing.assert_close(pairs.tokens, tokens[index], rtol=2**-8, atol=1e-6)
        assert pairs.image.flux.dtype == pairs.tokens.dtype == torch.float32


def test_retrieval_counts_partners_among_the_first_ten(model, galaxies, pairs):
    metrics = retrieval(model.train(), pairs)
    assert model.training
    image = model.embed_images(galaxies.images, device="cpu")
    spectrum = model.embed_spectra(galaxies.spectra, device="cpu")
    order = np.argsort(-image @ spectrum.T, axis=1)
    found = [row in order[row, :10] for row in range(len(galaxies))]
    assert metrics["top10"] == pytest.approx(np.mean(found))
    assert 0 < metrics["top10"] < 1
    by_hand = loss_by_hand(image, spectrum, model.inverse_temperature.item())
    assert metrics["validation_loss"] == pytest.approx(by_hand, abs=1e-4)


def test_alignment_learns_a_few_galaxies_by_heart(model, pairs):
    model.spectrum.trunk.requires_grad_(False)
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = pair_loss(model, pairs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * math.log(len(pairs.features))
    assert retrieval(model, pairs)["top10"] == 1
