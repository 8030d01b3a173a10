"""Learnable pixels are made up here: what is in them is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse.evaluate.conv_att import ConvAttConfig
from appulse.evaluate.resnet import ResNetConfig
from appulse.evaluate.rivals import _cutouts
from appulse.evaluate.sample import Sample
from appulse.evaluate.study import Study
from appulse.evaluate.supervised import (
    ImageNetwork,
    SpectrumNetwork,
    SupervisedConfig,
    SupervisedLearner,
    conv_att,
    read_pixels,
    resnet,
)
from appulse.image.objective import flux_batches
from appulse.metrics import accuracy, r2
from appulse.survey.rgb import to_rgb
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey
from appulse.training.loop import TrainingConfig
from appulse.training.run import read_metrics

TRAINING = TrainingConfig(
    steps=150, batch_size=32, learning_rate=1e-2, warmup=10, validate_every=10, patience=8
)
RESNET = ResNetConfig(width=8, blocks=(1, 1))
CONV_ATT = ConvAttConfig(channels=(8, 8, 16), kernels=(5, 5, 5), hidden=(16,))


def blobs(n, seed):
    """Gaussian blobs, whose brightness and size are to be told, and if they are large."""
    rng = np.random.default_rng(seed)
    brightness, size = rng.uniform(-1, 1, n), rng.uniform(1.5, 4.5, n)
    y, x = np.mgrid[-12:12, -12:12] + 0.5
    shape = np.exp(-(x**2 + y**2) / (2 * size[:, None, None] ** 2))
    image = np.stack([10 ** brightness[:, None, None] * shape] * 3, axis=1)
    return image.astype(np.float16), np.stack([brightness, size], 1), np.where(size > 3, "L", "S")


def lines(n, seed):
    """Spectra with one line, whose place and continuum are to be told, and if it is red."""
    rng = np.random.default_rng(seed)
    place, level = rng.uniform(40, 260, n), rng.uniform(0, 1, n)
    line = np.exp(-((np.arange(300) - place[:, None]) ** 2) / 18)
    flux = 10 ** level[:, None] * (1 + 3 * line + 0.2 * rng.normal(size=(n, 300)))
    return (
        flux.astype(np.float16),
        np.stack([place, level], axis=1),
        np.where(place > 150, "red", "blue"),
    )


@pytest.mark.parametrize(("made", "network"), [(blobs, RESNET), (lines, CONV_ATT)])
def test_networks_learn_properties_and_classes(tmp_path, made, network):
    (x, y, names), (x_val, y_val, names_val), (x_test, y_test, names_test) = (
        made(n, seed) for seed, n in enumerate((400, 100, 200))
    )
    longer = replace(TRAINING, steps=160, patience=None)
    learner = SupervisedLearner(SupervisedConfig(network, TRAINING, longer), tmp_path, "cpu")
    y[::3, 0] = np.nan
    predicted = learner.fit(x, y, x_val, y_val).predict(x_test)
    assert min(r2(predicted[:, i], y_test[:, i]) for i in range(2)) > 0.8
    classes = learner.fit(x, names, x_val, names_val).predict(x_test)
    assert accuracy(classes, names_test) > 0.85
    assert [read_metrics(tmp_path / n)[-1]["step"] for n in ("properties", "classes")] == [150, 160]


@pytest.mark.parametrize(
    ("labels", "batch", "steps"),
    [(100, 32, 1000), (1000, 32, 1000), (2368, 64, 1184), (14_870, 64, 4600)],
)
def test_more_labels_take_more_steps_and_classes_twice_as_many(labels, batch, steps):
    config = resnet(labels, seed=3)
    for times, training in ((1, config.training), (2, config.classes)):
        assert (training.batch_size, training.seed) == (batch, 3)
        assert training.steps == times * steps
        assert training.patience * training.validate_every < 0.55 * training.steps
    assert conv_att(labels).training.steps == min(steps, 2300)


def test_training_ends_early_with_its_best_weights_and_is_not_done_twice(tmp_path):
    """Targets that are pure noise: what is learned of them makes validation worse."""
    (x, _, _), (x_val, _, _) = blobs(60, 0), blobs(60, 1)
    rng = np.random.default_rng(2)
    y, y_val = rng.normal(size=(60, 1)), rng.normal(size=(60, 1))
    training = replace(TRAINING, steps=400, validate_every=5, learning_rate=2e-2)
    learner = SupervisedLearner(SupervisedConfig(RESNET, training), tmp_path, "cpu")
    predicted = learner.fit(x, y, x_val, y_val).predict(x_val)
    losses = [m["validation_loss"] for m in read_metrics(tmp_path / "properties") if len(m) == 2]
    assert len(losses) < 400 / 5
    scale = y.std(0)
    assert np.mean(((predicted - y_val) / scale) ** 2) == pytest.approx(min(losses), rel=0.02)
    again = learner.fit(x, y, x_val, y_val).predict(x_val)
    np.testing.assert_array_equal(again, predicted)
    with pytest.raises(ValueError, match="another configuration"):
        learner.fit(x, y[::-1].copy(), x_val, y_val)


def test_an_image_is_seen_in_all_orientations_while_learning():
    net = ImageNetwork(RESNET, 1)
    seen = []
    net.resnet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.arange(48.0).reshape(1, 3, 4, 4)
    with torch.no_grad():
        net(image.expand(200, -1, -1, -1))
        net.eval()(image)
    turned, straight = seen
    expected = [torch.rot90(f, k, (2, 3)) for k in range(4) for f in (straight, straight.flip(3))]
    kinds = {tuple(view.flatten().tolist()) for view in turned}
    assert kinds == {tuple(view.flatten().tolist()) for view in expected}


def test_a_spectrum_keeps_its_brightness_beside_its_shape():
    net = SpectrumNetwork(CONV_ATT, 1).eval()
    seen = []
    net.conv_att.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    flux = 3 + torch.rand(2, 300)
    for factor in (1, 10):
        net(factor * flux)
    (planes, dim), (same, bright) = seen
    torch.testing.assert_close(planes, same)
    torch.testing.assert_close(bright - dim, torch.full((2, 1), np.log(10), dtype=torch.float32))


def test_pictures_are_read_as_flux(galaxies, tmp_path):
    """By all that learns from pixels: where no channel is clipped, as the flux itself."""
    images = replace(galaxies.images, flux=to_rgb(galaxies.images.flux), kind="rgb")
    both = Survey(images, galaxies.spectra, galaxies.columns)
    pictures = SurveyStore.create(tmp_path / "rgb.lance", [both])
    plain = SurveyStore.create(tmp_path / "flux.lance", [galaxies])
    training, cpu = replace(TRAINING, batch_size=8), torch.device("cpu")
    readers = {
        "image transformers": lambda s: next(flux_batches(s, training, cpu)(0)).numpy(),
        "networks": lambda s: read_pixels(
            s, np.arange(8), SupervisedConfig(RESNET, TRAINING, size=24)
        ),
        "MoCo": lambda s: _cutouts(Study(Sample(s, {}), {}, tmp_path), np.arange(8)),
    }
    for name, read in readers.items():
        near = np.abs(read(pictures) - read(plain)) < 0.02
        assert near.mean() > 0.85, name
