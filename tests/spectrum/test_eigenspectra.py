import numpy as np
import pytest
import torch

from appulse.spectrum.eigenspectra import WEIGHT_LIMIT, Eigenspectra, EigenspectraConfig
from appulse.spectrum.redshift import DictionaryConfig, ShiftDictionary
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

WINDOW, LENGTH, K = 120, 180, 3


def galaxies(n, seed=0, noise=0.0):
    """Spectra of K smooth components at random shifts, with flux, ivar and first bin at rest."""
    rng = np.random.default_rng(seed)
    x = np.arange(LENGTH)
    parts = np.stack([np.sin(2 * np.pi * x * (k + 1) / LENGTH) for k in range(K)])
    rest = 3 + rng.normal(size=(n, K)) * [0.6, 0.4, 0.2] @ parts
    start = rng.integers(0, LENGTH - WINDOW + 1, n)
    flux = rest[np.arange(n)[:, None], start[:, None] + np.arange(WINDOW)]
    flux = flux + noise * rng.normal(size=flux.shape)
    ivar = np.full(flux.shape, 1 / max(noise, 0.01) ** 2)
    return [torch.from_numpy(np.float32(a)) for a in (flux, ivar, start)]


def made(n=400, noise=0.0, **options):
    config = EigenspectraConfig(**{"components": K, "bins": 1, "rounds": 20} | options)
    return Eigenspectra(config, LENGTH).fit(*galaxies(n, noise=noise))


def reconstruction(eigenspectra, flux, ivar, start):
    c = eigenspectra.coefficients(flux, ivar, start)
    rest = eigenspectra.mean + c @ eigenspectra.components
    index = start.long()[:, None] + torch.arange(WINDOW)
    return rest.gather(1, index)


def test_few_components_hold_what_few_components_made():
    """One more than made it, since dividing by the median scales the mean."""
    eigenspectra = made(components=K + 1)
    flux, ivar, start = galaxies(100, seed=1)
    relative = flux / flux.median(1, keepdim=True).values
    left = (reconstruction(eigenspectra, flux, ivar, start) - relative).square().mean()
    assert left < 0.02 * relative.var()
    one = made(components=1)
    left_by_one = (reconstruction(one, flux, ivar, start) - relative).square().mean()
    assert left_by_one > 5 * left


def test_coefficients_are_the_ridge_solution():
    """min Σ w (x - mean - c V)² + |c|², solved by least squares on stacked rows."""
    eigenspectra = made(noise=0.3)
    flux, ivar, start = galaxies(4, seed=2, noise=0.3)
    found = eigenspectra.coefficients(flux, ivar, start)
    for row in range(4):
        scale = flux[row].median()
        power = ivar[row] * scale**2
        weight = (power / (1 + power / WEIGHT_LIMIT)).sqrt().numpy()
        place = slice(int(start[row]), int(start[row]) + WINDOW)
        v = eigenspectra.components[:, place].numpy() * weight
        x = (flux[row] / scale - eigenspectra.mean[place]).numpy() * weight
        rows, values = np.vstack([v.T, np.eye(K)]), np.concatenate([x, np.zeros(K)])
        expected = np.linalg.lstsq(rows, values, rcond=None)[0]
        np.testing.assert_allclose(found[row], expected, rtol=2e-3, atol=2e-3)


def test_coefficients_have_unit_variance_where_the_data_say_much():
    c = made().coefficients(*galaxies(400, seed=3))
    np.testing.assert_allclose(c.std(0), 1, atol=0.15)


def test_masked_bins_say_nothing():
    eigenspectra = made()
    flux, ivar, start = galaxies(5, seed=4)
    ivar[:, 40:60] = 0
    spoilt = flux.clone()
    spoilt[:, 40:60] = 1e6
    same = [eigenspectra.coefficients(f, ivar, start) for f in (flux, spoilt)]
    torch.testing.assert_close(*same)


def test_noise_pulls_to_the_mean_and_an_empty_spectrum_lies_there():
    eigenspectra = made()
    flux, ivar, start = galaxies(50, seed=5)
    sure, unsure, empty = (
        eigenspectra.coefficients(flux, ivar * factor, start) for factor in (1, 1e-7, 0)
    )
    assert unsure.norm() < 0.2 * sure.norm()
    assert (empty == 0).all()


def test_a_galaxy_looks_the_same_on_two_grids():
    """A spectrum that is half as long, its first bin given, has nearly the same coefficients."""
    eigenspectra = made()
    flux, ivar, start = galaxies(200, seed=6)
    cut = slice(20, 110)
    part = eigenspectra.coefficients(flux[:, cut], ivar[:, cut], start + 20)
    whole = eigenspectra.coefficients(flux, ivar, start)
    cosine = torch.nn.functional.cosine_similarity(part, whole)
    assert cosine.median() > 0.9


def test_spectra_are_measured_at_the_dictionarys_shift():
    config = DictionaryConfig(templates=2, bin=2e-3, bins=500, shifts=200, smoothing=9.0)
    dictionary = ShiftDictionary(config)
    eigenspectra = Eigenspectra(EigenspectraConfig(components=2), config.length)
    phase = 60 * 6e-3 * torch.arange(len(eigenspectra.mean))
    eigenspectra.mean = torch.ones_like(phase)
    eigenspectra.components = torch.stack([phase.sin(), phase.cos()])
    grid = desi_grid()
    rest = lambda z: 5 + np.sin(60 * np.log(grid / 3600 / (1 + z)))  # noqa: E731
    spectra = Spectra.from_arrays(np.stack([rest(0.0), rest(np.expm1(0.06))]), ivar=None)
    shift = np.array([0.0, 0.06])
    right = eigenspectra.measure(spectra, dictionary, -0.2 + shift)
    wrong = eigenspectra.measure(spectra, dictionary, -0.2 + shift[::-1])
    assert np.abs(right[0] - right[1]).max() < 0.1 * np.abs(wrong[0] - wrong[1]).max()


@pytest.mark.parametrize("components", [1, 5])
def test_as_many_as_asked_for(components):
    assert made(components=components).coefficients(*galaxies(7)).shape == (7, components)
