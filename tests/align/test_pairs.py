import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse.align.pairs import (
    LearningConfig,
    Pairs,
    Tokens,
    cache_pairs,
    pair_batches,
    pair_loss,
    retrieval,
    take_pairs,
)
from appulse.image.preprocess import random_dihedral
from appulse.training.loop import TrainingConfig

BOTH = [(False, False), (True, False), (False, True), (True, True)]  # of image and spectrum


@pytest.fixture
def pairs(model, galaxies):
    """The galaxies, straight from the towers; the spectrum's trunk is locked."""
    image = model.image.prepare(galaxies.images)
    spectrum = model.spectrum.prepare(galaxies.spectra)
    return Pairs(image, seen(model.spectrum, spectrum))


@torch.no_grad()
def seen(tower, inputs):
    """What a locked trunk sees."""
    return Tokens(inputs.features, tower.tokens(inputs))


def loss_by_hand(image, spectrum, inverse_temperature):
    """Symmetric InfoNCE of unit vectors in float64."""
    logits = inverse_temperature * image.astype(np.float64) @ spectrum.T.astype(np.float64)

    def cross_entropy(rows):
        return -np.mean([row[i] - np.log(np.exp(row).sum()) for i, row in enumerate(rows)])

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def test_what_is_expected_of_spectra_is_learned_beside(model, pairs):
    torch.manual_seed(1)
    both = pair_loss(model, pairs)
    expectation, model.expectation = model.expectation, None
    torch.manual_seed(1)
    contrastive = pair_loss(model, pairs)
    torch.manual_seed(1)
    image = model.image(random_dihedral(pairs.image))
    measured = model.spectrum.coordinates(pairs.spectrum.features)
    wanted = contrastive + expectation.loss(image, measured)
    torch.testing.assert_close(both, wanted)
    assert both > contrastive + 0.01


def test_the_loss_is_that_of_the_embeddings_of_turned_images(model, galaxies, pairs):
    model.expectation = None
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


@pytest.mark.parametrize(("image", "spectrum"), BOTH)
@pytest.mark.parametrize("temperature", [False, True])
def test_the_gradient_reaches_all_that_learns_and_nothing_else(
    model, galaxies, image, spectrum, temperature
):
    LearningConfig(image, spectrum, temperature).apply(model)
    assert (model.image.locked, model.spectrum.locked) == (not image, not spectrum)
    towers = (model.image, galaxies.images), (model.spectrum, galaxies.spectra)
    inputs = ((tower, tower.prepare(rows)) for tower, rows in towers)
    model.train()
    pair_loss(model, Pairs(*(seen(t, x) if t.locked else x for t, x in inputs))).backward()
    locked = {
        "towers.image.trunk.": not image,
        "towers.spectrum.trunk.": not spectrum,
        "log_inverse_temperature": not temperature,
    }
    for name, parameter in model.named_parameters():
        if name.endswith("mask_token") or any(locked[n] for n in locked if name.startswith(n)):
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("image", "spectrum"), BOTH)
def test_the_cache_holds_what_the_towers_take_or_locked_trunks_say(
    model, store, tmp_path, image, spectrum
):
    """In the store's order; image flux as float16, tokens as bfloat16, all else exactly."""
    LearningConfig(image, spectrum).apply(model)
    cache = cache_pairs(tmp_path / "cache", model, store, "validation", "cpu", "float32")
    survey = store.read(part="validation")
    inputs = model.image.prepare(survey.images), model.spectrum.prepare(survey.spectra)
    fresh = [
        seen(tower, x) if tower.locked else x
        for tower, x in zip((model.image, model.spectrum), inputs, strict=True)
    ]
    assert len(cache) == len(survey)
    everything = np.arange(len(survey))
    for rows in (slice(None), everything[::-1], np.array([5, 2, 2])):
        pairs = take_pairs(cache, rows, torch.device("cpu"))
        index = torch.from_numpy(everything[rows].copy())
        for side, expected in zip(pairs, fresh, strict=True):
            assert type(side) is type(expected)
            for name in side._fields:
                x, cached = getattr(expected, name), getattr(side, name)
                x = x.expand(len(survey), *x.shape[1:])[index]
                tolerance = {"tokens": 2**-8, "flux": 2**-11 * (side is pairs.image)}
                torch.testing.assert_close(cached, x, rtol=tolerance.get(name, 0), atol=1e-6)


def test_batches_come_in_pieces_from_any_step_on(model, store, tmp_path):
    cache = cache_pairs(tmp_path / "cache", model, store, "validation", "cpu", "float32")
    config = TrainingConfig(steps=9, batch_size=8, seed=2)
    whole = pair_batches(cache, config, torch.device("cpu"))(0)
    steps = [next(whole).image.features for _ in range(4)]
    pieces = pair_batches(cache, replace(config, accumulate=2), torch.device("cpu"))(2)
    for step in steps[2:]:
        assert torch.equal(torch.cat([next(pieces).image.features for _ in range(2)]), step)


def test_cached_or_not_the_loss_is_the_same(model, galaxies, pairs):
    spectrum = model.spectrum.prepare(galaxies.spectra)
    fresh = retrieval(model, pairs._replace(spectrum=spectrum))
    assert fresh == pytest.approx(retrieval(model, pairs), rel=1e-5)
    cached = Pairs(seen(model.image, pairs.image), pairs.spectrum)
    assert retrieval(model, cached) == pytest.approx(fresh, rel=1e-5)
    model.expectation = None
    with torch.no_grad():
        losses = [pair_loss(model, cached).item() for _ in range(9)]
    assert losses == pytest.approx([fresh["validation_loss"]] * 9, rel=1e-5)  # nothing is turned


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
    LearningConfig().apply(model)
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = pair_loss(model, pairs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * math.log(len(pairs.spectrum.features))
    assert retrieval(model, pairs)["top10"] == 1
