import numpy as np
import pytest
import torch

from appulse.spectrum.rest import RestConfig, RestSpace
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

CONFIG = RestConfig(components=2, bin=2e-3, rounds=15)
N = 150


def shapes(rest):
    """A slope with a line, and two ways to differ from it."""
    line = np.exp(-((rest - 5000) ** 2) / (2 * 15.0**2))
    return 1 + (rest - 5000) / 8000, 0.1 * np.sin(rest / 700), 0.3 * line


@pytest.fixture(scope="module")
def known():
    """Spectra of two known components at many redshifts, with noise and holes."""
    rng = np.random.default_rng(0)
    z, h, brightness = rng.uniform(0.02, 0.5, N), rng.normal(size=(N, 2)), rng.uniform(1, 9, N)
    flux = np.empty((N, 7781))
    for i in range(N):
        mean, *ways = shapes(desi_grid() / (1 + z[i]))
        flux[i] = brightness[i] * (mean + h[i] @ np.stack(ways))
    sigma = rng.uniform(0.1, 0.3, (N, 1)) * brightness[:, None]
    noisy = flux + sigma * rng.normal(size=flux.shape)
    mask = rng.random(flux.shape) < 0.1
    return Spectra.from_arrays(noisy, ivar=sigma**-2, mask=mask), z, flux, h


@pytest.fixture(scope="module")
def space(known):
    return RestSpace(CONFIG).fit(*known[:2])


def test_spectra_are_told_from_their_noise(known, space):
    spectra, z, flux, _ = known
    h, log_brightness = space.encode(spectra, z)
    made = space.decode(h, log_brightness, z)
    inside = (desi_grid() > 3700) & (desi_grid() < 9700)
    error = np.abs(made - flux)[:, inside] / np.abs(flux).mean(1, keepdims=True)
    assert np.median(error) < 0.02
    noise = np.abs(spectra.flux - flux)[:, inside] / np.abs(flux).mean(1, keepdims=True)
    assert np.median(error) < 0.2 * np.median(noise)


def test_coordinates_are_those_of_the_truth_but_for_a_turn(known, space):
    h, _ = space.encode(*known[:2])
    np.testing.assert_allclose(h.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(h.T), np.eye(2), atol=0.05)
    design = np.column_stack([known[3], np.ones(N)])
    rest = h - design @ np.linalg.lstsq(design, h, rcond=None)[0]
    assert rest.std() < 0.25


def test_what_was_not_seen_counts_for_nothing(known, space):
    spectra, z, *_ = known
    flux = np.where(spectra.mask, 1e4, spectra.flux)
    other = Spectra.from_arrays(flux, ivar=spectra.ivar, mask=spectra.mask)
    np.testing.assert_allclose(space.encode(other, z)[0], space.encode(spectra, z)[0])


def test_too_few_spectra_are_refused(known):
    with pytest.raises(ValueError, match="7 spectra cannot teach 2 components"):
        RestSpace(CONFIG).fit(known[0][:7], known[1][:7])


def test_coordinates_are_as_far_apart_as_noise_free_spectra(known, space):
    h, log_brightness = space.encode(*known[:2])
    encoded = torch.from_numpy(np.column_stack([h, log_brightness])).float()
    found = space.coordinates(torch.zeros(N), encoded)[:, :2]
    at_rest = torch.from_numpy(h).float() @ space.components.T
    apart = (at_rest[:20, None] - at_rest).square().mean(2).sqrt()
    torch.testing.assert_close(torch.cdist(found[:20], found), apart, atol=1e-4, rtol=1e-3)
