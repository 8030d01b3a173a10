from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse.evaluate import moco
from appulse.evaluate.moco import Moco, MocoConfig, train_moco, view
from appulse.evaluate.resnet import ResNetConfig
from appulse.image import distortions
from appulse.training.loop import TrainingConfig

CONFIG = MocoConfig(
    TrainingConfig(steps=40, batch_size=32, learning_rate=5e-3, warmup=5),
    ResNetConfig(width=8, blocks=(1, 1)),
    embedding=16,
    queue=64,
    momentum=0.9,
    size=24,
    jitter=2,
)


def galaxies(n, seed=0):
    """Blobs of their own size, shape, colour and brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-16:16, -16:16] + 0.5
    size, ratio = rng.uniform(1.5, 5, (n, 1, 1)), rng.uniform(0.3, 1, (n, 1, 1))
    shape = np.exp(-(x**2 + (y / ratio) ** 2) / (2 * size**2))
    colour = 10 ** rng.uniform(-0.5, 1, (n, 3, 1, 1))
    return (colour * shape[:, None]).astype(np.float32)


def test_a_view_turns_and_shifts_but_keeps_the_light(monkeypatch):
    """With nothing but turns and shifts up to 3 pixels along either axis."""
    monkeypatch.setattr(distortions, "added", lambda kind, normal: torch.zeros(len(normal[0]), 3))
    flux = torch.from_numpy(galaxies(50))
    config = replace(CONFIG, size=32, jitter=3, zoom=0.0, reddening=0.0)
    seen = view(flux, config)
    assert (seen.sum((2, 3)) / flux.sum((2, 3)) - 1).abs().max() < 0.03
    centres, before = centre(seen), centre(flux)
    assert (centres - before).abs().max() <= 3 * 2**0.5 + 0.01
    assert (centres - before).square().mean() == pytest.approx(3**2 / 3, rel=0.3)
    assert (seen - flux).abs().amax((1, 2, 3)).min() > 1e-3  # none stays as it was


def centre(flux):
    """Centroid in the first band."""
    light = flux[:, 0] / flux[:, 0].sum((1, 2), keepdim=True)
    place = torch.arange(flux.shape[2], dtype=torch.float32)
    return torch.stack([(light.sum(2) * place).sum(1), (light.sum(1) * place).sum(1)], dim=1)


def test_a_view_is_redder_and_larger_as_told(monkeypatch):
    monkeypatch.setattr(distortions, "added", lambda kind, normal: torch.zeros(len(normal[0]), 3))
    flux = torch.from_numpy(galaxies(50))
    seen = view(flux, replace(CONFIG, size=32, jitter=0, zoom=0.0, reddening=0.3))
    change = (seen.sum((2, 3)) / flux.sum((2, 3))).log10() / -0.4
    ratio = change / change[:, :1]
    torch.testing.assert_close(
        ratio.median(0).values,
        torch.tensor([1, 2.165, 1.211]) / torch.tensor([1, 3.214, 3.214]),
        atol=0.02,
        rtol=0,
    )
    seen = view(flux, replace(CONFIG, size=32, jitter=0, zoom=0.3, reddening=0.0))
    area = seen.sum((2, 3)) / flux.sum((2, 3))
    assert area.min() < 0.8
    assert area.max() > 1.3


def test_new_keys_take_the_place_of_the_oldest_and_the_copy_is_slow():
    torch.manual_seed(0)
    net = Moco(CONFIG)
    first, queue = net.slow.fc[0].weight.clone(), net.queue.clone()
    with torch.no_grad():
        net.network.fc[0].weight.add_(1.0)
    for step in range(3):  # 3 × 24 keys into 64 places
        net.loss(torch.from_numpy(galaxies(24, step)))
        net.follow()
        keys = net.fresh
    torch.testing.assert_close(net.slow.fc[0].weight, first + 1 - 0.9**3)
    assert int(net.place) == 8
    torch.testing.assert_close(net.queue[:8], keys[16:])
    torch.testing.assert_close(net.queue[48:], keys[:16])
    assert not (net.queue == queue).all(1).any()


def test_another_view_of_a_galaxy_is_found_after_training(tmp_path):
    trained = train_moco(galaxies(300), CONFIG, tmp_path / "run", device="cpu")
    torch.manual_seed(1)
    flux = torch.from_numpy(galaxies(100, 7))
    with torch.no_grad():
        one, other = (trained.eval().network(moco._seen(view(flux, CONFIG))) for _ in range(2))
    cosine = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=2)
    ranks = (cosine >= cosine.diagonal()[:, None]).sum(1)
    assert ranks.float().median() <= 5
    vectors = trained.embed(galaxies(100, 7))
    assert vectors.shape == (100, 16)
    again = train_moco(galaxies(300), CONFIG, tmp_path / "run", device="cpu")
    np.testing.assert_array_equal(again.embed(galaxies(100, 7)), vectors)
