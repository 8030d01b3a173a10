"""Attention maps say where a galaxy's evidence is: a line, or a star, put where we know.

Towers learn to recognise the place of something injected into galaxies, whoever the galaxy is; so
that place is what their embedding is of.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from appulse.align.head import PoolConfig
from appulse.align.model import Model, ModelConfig
from appulse.align.towers import ImageTowerConfig, SpectrumTowerConfig
from appulse.image.vit import VisionTransformerConfig
from appulse.spectrum.transformer import SpectrumTransformerConfig
from appulse.survey.spectra import Spectra
from appulse.training.contrastive import contrastive_loss

PATCH, PATCHES = 80, 30  # of a spectrum, in pixels
SIDE, ACROSS = 12, 4  # of an image
HEAD = PoolConfig(width=32, heads=2)
TESTED = 50


def learn(tower, draw, steps, batch=48):
    """InfoNCE between two galaxies with the same thing at the same place."""
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        one, other = draw(rng, batch)
        optimizer.zero_grad()
        contrastive_loss(tower(tower.prepare(one)), tower(tower.prepare(other)), 10.0).backward()
        optimizer.step()


def agreement(weights, change):
    """Mean rank correlation over galaxies, and how often both are largest at the same patch."""
    correlation = [spearmanr(a, b).statistic for a, b in zip(weights, change, strict=True)]
    return np.mean(correlation), np.mean(weights.argmax(1) == change.argmax(1))


# --- spectra


def with_line(spectra, place):
    """An emission line of width 5 pixels, twenty times as high as the noise of a pixel."""
    noise = np.median(1 / np.sqrt(np.maximum(spectra.ivar, 1e-6)), axis=1, keepdims=True)
    line = np.exp(-((np.arange(PATCH * PATCHES) - place[:, None]) ** 2) / 50)
    return replace(spectra, flux=(spectra.flux + 20 * noise * line).astype(np.float32))


@pytest.fixture(scope="module")
def spectra(store):
    """Red parts of galaxies' spectra."""
    whole = store.take(range(200), ["spectra"])["spectra"]
    part = slice(2000, 2000 + PATCH * PATCHES)
    return Spectra.from_arrays(
        whole.flux[:, part],
        wavelength=whole.wavelength[0, part],
        ivar=whole.ivar[:, part],
        mask=whole.mask[:, part],
    )


@pytest.fixture(scope="module")
def lines(spectra):
    """A model that learned from lines in 150 galaxies, 50 others with lines, and their places."""
    config = SpectrumTransformerConfig(patch=PATCH, stride=PATCH, width=32, depth=1, heads=2)
    torch.manual_seed(0)
    model = Model(ModelConfig(None, SpectrumTowerConfig(config, HEAD, None)))

    def draw(rng, n):
        place = rng.uniform(PATCH, PATCH * (PATCHES - 1), n)
        return (with_line(spectra[rng.integers(0, 150, n)], place) for _ in range(2))

    learn(model.spectrum, draw, steps=200)
    place = np.random.default_rng(1).uniform(PATCH, PATCH * (PATCHES - 1), TESTED)
    return model.eval(), with_line(spectra[150:], place), place


def test_an_injected_line_is_found_within_one_patch(lines):
    model, spectra, place = lines
    looks = model.attention(spectra, device="cpu")
    found = looks.wavelength[np.arange(TESTED), looks.weights.mean(1).argmax(1)]
    true = np.interp(place, np.arange(PATCH * PATCHES), spectra.wavelength[0])
    assert np.mean(np.abs(found - true) < 0.8 * PATCH) > 0.9  # Å


def test_attention_on_spectra_agrees_with_occlusion(lines):
    model, spectra, _ = lines
    whole, change = model.embed_spectra(spectra, device="cpu"), np.zeros((TESTED, PATCHES))
    for k in range(PATCHES):
        mask = spectra.mask.copy()
        mask[:, PATCH * k : PATCH * (k + 1)] = True
        hidden = replace(spectra, mask=mask, ivar=np.where(mask, 0, spectra.ivar))
        change[:, k] = 1 - (model.embed_spectra(hidden, device="cpu") * whole).sum(1)
    weights = model.attention(spectra, device="cpu").weights.mean(1)
    correlation, same = agreement(weights, change)
    assert correlation > 0.3
    assert same > 0.9


# --- images


def with_star(images, place):
    """A star of 10 nanomaggies in each band, at a place in pixels (row, column)."""
    y, x = np.mgrid[: SIDE * ACROSS, : SIDE * ACROSS]
    star = np.exp(-((y - place[:, :1, None]) ** 2 + (x - place[:, 1:, None]) ** 2) / 8)
    flux = images.flux + (10 / 25) * star[:, None]
    return replace(images, flux=flux.astype(np.float32))


@pytest.fixture(scope="module")
def stars(store):
    """The same for images and stars."""
    from appulse.survey.resample import fit

    images = fit(store.take(range(200), ["images"])["images"], SIDE * ACROSS)
    trunk = VisionTransformerConfig(size=SIDE * ACROSS, patch=SIDE, width=32, depth=1, heads=2)
    torch.manual_seed(0)
    model = Model(ModelConfig(ImageTowerConfig(trunk, HEAD), None))

    def draw(rng, n):
        place = rng.uniform(3, SIDE * ACROSS - 3, (n, 2))
        return (with_star(images[rng.integers(0, 150, n)], place) for _ in range(2))

    learn(model.image, draw, steps=200)
    place = np.random.default_rng(1).uniform(3, SIDE * ACROSS - 3, (TESTED, 2))
    return model.eval(), with_star(images[150:], place), place, images[150:]


def test_an_injected_star_is_found_within_one_patch(stars):
    model, images, place, _ = stars
    weights = model.attention(images, device="cpu").mean(1).reshape(TESTED, -1)
    found = (np.stack(np.divmod(weights.argmax(1), ACROSS), 1) + 0.5) * SIDE
    assert np.mean(np.abs(found - place).max(1) < SIDE) > 0.9


def test_attention_on_images_agrees_with_occlusion(stars):
    """A hidden patch is one in which nothing was observed but the sky."""
    model, images, _, _ = stars
    whole, change = model.embed_images(images, device="cpu"), np.zeros((TESTED, ACROSS**2))
    for k, (i, j) in enumerate(np.ndindex(ACROSS, ACROSS)):
        flux = images.flux.copy()
        flux[:, :, SIDE * i : SIDE * (i + 1), SIDE * j : SIDE * (j + 1)] = 0
        hidden = replace(images, flux=flux)
        change[:, k] = 1 - (model.embed_images(hidden, device="cpu") * whole).sum(1)
    weights = model.attention(images, device="cpu").mean(1).reshape(TESTED, -1)
    correlation, same = agreement(weights, change)
    assert correlation > 0.2  # by chance 0 ± .04
    assert same > 0.9
