import numpy as np
import pytest
import torch

from appulse.align.expectation import Expectation
from appulse.align.load import load
from appulse.metrics import r2


def test_it_learns_the_mean_under_noise():
    """y = A tanh(B e) + noise: the closed form of the mean is known."""
    rng = torch.Generator().manual_seed(0)
    first, last = torch.randn(6, 4, generator=rng), torch.randn(4, 3, generator=rng)
    image = torch.nn.functional.normalize(torch.randn(4000, 6, generator=rng), dim=1)
    mean = 50 + 7 * (2 * image @ first).tanh() @ last
    noisy = mean + 5 * torch.randn(mean.shape, generator=rng)
    torch.manual_seed(0)
    expectation = Expectation(6, 3)
    expectation.standardise(noisy)
    optimizer = torch.optim.Adam(expectation.parameters(), 3e-3)
    for step in range(300):
        optimizer.zero_grad()
        rows = torch.arange(256) + 256 * (step % 14)
        expectation.loss(3 * image[rows], noisy[rows]).backward()
        optimizer.step()
    found = expectation(image[3600:]).detach()
    for k in range(3):
        assert r2(found[:, k].numpy(), mean[3600:, k].numpy()) > 0.95


@pytest.mark.parametrize("constant", [0.0, 20.3])
def test_a_coordinate_that_was_constant_is_expected_at_its_mean(constant):
    coordinates = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0))
    coordinates[:, 1] = constant
    expectation, image = Expectation(6, 3), torch.randn(5, 6)
    expectation.standardise(coordinates)
    torch.testing.assert_close(expectation(image)[:, 1], torch.full((5,), constant))
    later = coordinates[:5].clone()
    later[:, 1] += torch.arange(5.0)
    loss = expectation.loss(image, coordinates[:5])
    torch.testing.assert_close(expectation.loss(image, later), loss)


def test_the_embedding_does_not_learn_from_it():
    image = torch.randn(5, 6, requires_grad=True)
    expectation = Expectation(6, 3)
    expectation.loss(image, torch.randn(5, 3)).backward()
    assert image.grad is None
    assert all(parameter.grad is not None for parameter in expectation.parameters())


def test_images_tell_what_spectra_measure(run, galaxies):
    model = load(run.align)
    measured, expected = (model.coordinates(x) for x in (galaxies.spectra, galaxies.images))
    assert expected.shape == measured.shape == (len(galaxies), 5)
    assert np.corrcoef(measured[:, 3], expected[:, 3])[0, 1] > 0.7  # of brightness


def test_spectra_are_measured_as_the_tower_does(model, galaxies):
    shift, _ = model.spectrum.dictionary.measure(galaxies.spectra)
    found = model.coordinates(galaxies.spectra)
    assert np.corrcoef(shift, found[:, -1])[0, 1] == pytest.approx(1, abs=1e-5)


def test_a_model_that_measures_nothing_says_so(model, galaxies):
    model.expectation = None
    with pytest.raises(ValueError, match="no components at rest"):
        model.coordinates(galaxies.images)
