from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from appulse.image import contrast
from appulse.image.contrast import Contrast, ContrastConfig, view
from appulse.image.vit import VisionTransformerConfig
from appulse.survey.images import Images

TRUNK = VisionTransformerConfig(size=32, patch=8, width=32, depth=1, heads=2, class_token=True)
CONFIG = ContrastConfig(shift=2.0, hidden=32, embedding=16)


def galaxies(n, seed=0):
    """Blobs of their own size, flatness, colour and brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-20:20, -20:20] + 0.5
    size, ratio = rng.uniform(3, 5, (n, 1, 1)), rng.uniform(0.2, 1, (n, 1, 1))
    shape = np.exp(-(x**2 + (y / ratio) ** 2) / (2 * size**2)) / ratio
    flux = 10 ** rng.uniform(-0.5, 1, (n, 3, 1, 1)) * shape[:, None]
    return torch.from_numpy(flux.astype(np.float32))


def test_views_keep_shapes_and_change_light_as_asked(monkeypatch):
    monkeypatch.setattr(contrast, "worse", lambda flux: flux)
    flux = galaxies(400)
    still = replace(CONFIG, shift=0.0, zoom=0.0)
    seen = view(flux, 40, still)
    magnitudes = -2.5 * (seen.sum((2, 3)) / flux.sum((2, 3))).log10()
    assert magnitudes.mean(1).std() == pytest.approx(
        (CONFIG.brightness**2 + CONFIG.colour**2 / 3) ** 0.5, rel=0.1
    )
    assert (magnitudes[:, 0] - magnitudes[:, 1]).std() == pytest.approx(
        2**0.5 * CONFIG.colour, rel=0.1
    )
    area = (seen > seen.amax((2, 3), keepdim=True) / 2).sum((2, 3)).float()
    before = (flux > flux.amax((2, 3), keepdim=True) / 2).sum((2, 3)).float()
    assert (area / before - 1).abs().median() < 0.1


def test_the_loss_is_that_of_pairs_and_reaches_everything():
    torch.manual_seed(0)
    model = Contrast(TRUNK, CONFIG)
    flux = galaxies(12)
    torch.manual_seed(1)
    loss = model.loss(flux)
    torch.manual_seed(1)
    first, second = (F.normalize(x.detach(), dim=1) for x in model._views(flux))
    logits = (CONFIG.inverse_temperature * first @ second.T).numpy()
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    others = np.exp(logits) / np.exp(logits).sum(0, keepdims=True)
    wanted = -(np.log(chances.diagonal()).mean() + np.log(others.diagonal()).mean()) / 2
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    for name, parameter in model.named_parameters():
        if name != "trunk.mask_token":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_it_learns_to_find_galaxies_again():
    """New galaxies, in fixed views that hide brightness and turn: random weights tell few."""
    torch.manual_seed(0)
    model = Contrast(TRUNK, CONFIG)
    images = Images.from_arrays(galaxies(300, seed=1).numpy())
    before = model.eval().validate(images)
    optimizer = torch.optim.AdamW(model.train().parameters(), 2e-3)
    for step in range(60):
        optimizer.zero_grad()
        model.loss(galaxies(64, seed=100 + step)).backward()
        optimizer.step()
    after = model.eval().validate(images)
    assert after == model.validate(images)
    assert after["found"] > 2 * before["found"] + 0.02
    assert after["validation_loss"] < before["validation_loss"] - 0.5


def test_trunks_that_cannot_be_compared_are_refused():
    for other in ({"class_token": False}, {"colours": "rgb"}):
        with pytest.raises(ValueError, match="compared by a class token, and made of flux"):
            Contrast(replace(TRUNK, **other), CONFIG)
