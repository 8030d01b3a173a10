import numpy as np
import pytest
import torch

from appulse.spectrum.preprocess import BANDS, SOFTENING, as_tensors, band_features, prepare
from appulse.spectrum.redshift import DictionaryConfig, ShiftDictionary, unit_templates
from appulse.spectrum.rest import RestConfig, RestSpace
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

GRID = desi_grid()


def spectra(flux, **options):
    flux = np.atleast_2d(flux)
    return Spectra.from_arrays(flux, **({"ivar": np.full(flux.shape, 4.0)} | options))


@pytest.fixture(scope="module")
def dictionary():
    made = ShiftDictionary(DictionaryConfig(templates=3))
    rng = torch.Generator().manual_seed(0)
    made.templates = unit_templates(torch.randn(made.templates.shape, generator=rng))
    return made


@pytest.fixture
def noisy():
    return spectra(np.random.default_rng(0).normal(5, 1, (4, len(GRID))))


def test_masked_pixels_lie_on_the_line_between_their_neighbours():
    line = 2 + (GRID - 3600) / 1000
    mask = np.zeros(len(GRID), bool)
    mask[1000:1100] = mask[4000] = True
    spoilt = np.where(mask, 500, line)
    flux, ivar, wavelength = as_tensors(spectra(spoilt, mask=mask[None]))
    np.testing.assert_allclose(flux[0], line, rtol=1e-5)
    np.testing.assert_array_equal(ivar[0] == 0, mask)
    assert (ivar[0, ~mask] == 4).all()
    np.testing.assert_allclose(wavelength[0], GRID, rtol=1e-6)


def test_a_grid_that_all_share_is_one_row():
    shared = spectra(np.ones((3, len(GRID))))
    assert as_tensors(shared)[2].shape == (1, len(GRID))
    grids = np.stack([GRID, GRID + 1, GRID + 2])
    own = as_tensors(spectra(np.ones((3, len(GRID))), wavelength=grids))[2]
    np.testing.assert_allclose(own, grids, rtol=1e-6)


def test_a_flat_spectrum_is_equally_bright_in_all_bands():
    features = band_features(spectra(np.full(len(GRID), 3.0)))
    assert features.shape == (1, BANDS)
    np.testing.assert_allclose(features[0, 3:], np.arcsinh(3 / SOFTENING), rtol=1e-5)


def test_a_source_of_one_nanomaggy_is_one_in_every_filter():
    """f_ν = 3631e-9 Jy, as f_λ = f_ν c / λ² in 1e-17 erg/s/cm²/Å."""
    f_lambda = 3.631e-29 * 2.99792458e18 / GRID**2 / 1e-17
    features = band_features(spectra(f_lambda))
    np.testing.assert_allclose(np.sinh(features[0, :3]) * SOFTENING, 1, rtol=2e-3)


def test_bands_that_were_not_seen_repeat_their_neighbours():
    """SDSS ends at 9200 Å and begins at 3800: the bands outside have no data."""
    seen = (GRID > 3900) & (GRID < 9000)
    slope = 1 + (GRID - 3600) / 2000
    whole = band_features(spectra(slope))
    cut = band_features(spectra(slope, mask=~seen[None]))
    assert cut[0, 3] == cut[0, 4] == pytest.approx(cut[0, 5], rel=0.1)
    assert (cut[0, -3:] == cut[0, -4]).all()
    np.testing.assert_allclose(cut[0, 6:-4], whole[0, 6:-4], rtol=1e-5)
    assert np.isfinite(cut).all()


def test_features_are_bands_shift_and_gains(dictionary, noisy):
    features = prepare(noisy, dictionary).features
    shift, gains = dictionary.measure(noisy)
    assert features.dtype == torch.float32
    np.testing.assert_allclose(features[:, :BANDS], band_features(noisy), rtol=1e-6)
    np.testing.assert_allclose(features[:, BANDS], shift, rtol=1e-6)
    np.testing.assert_allclose(features[:, BANDS + 1 :], gains, rtol=1e-6)
    assert (features[:, BANDS] != 0).any()


def test_a_batch_of_one_equals_its_row(dictionary, noisy):
    whole = prepare(noisy, dictionary)
    for row in range(len(noisy)):
        alone = prepare(noisy[row], dictionary)
        for name in ("flux", "ivar", "features"):
            torch.testing.assert_close(
                getattr(alone, name)[0], getattr(whole, name)[row], atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(alone.wavelength, whole.wavelength)


def test_the_container_is_left_as_it_was(dictionary, noisy):
    spoilt = spectra(noisy.flux, mask=noisy.flux > 6)
    flux, ivar = spoilt.flux.copy(), spoilt.ivar.copy()
    prepare(spoilt, dictionary)
    np.testing.assert_array_equal(spoilt.flux, flux)
    np.testing.assert_array_equal(spoilt.ivar, ivar)


def test_coordinates_at_rest_come_last(dictionary, noisy):
    """At the dictionary's redshift; before it is calibrated, the nearest galaxy's is 0."""
    rest = RestSpace(RestConfig(components=2, bin=3e-3))
    rest.components = torch.randn(rest.components.shape, generator=torch.Generator().manual_seed(0))
    shift, _ = dictionary.measure(noisy)
    zero = (dictionary.config.shifts - dictionary.config.margin) * dictionary.config.bin
    for point in (float("nan"), 0.4):
        dictionary.zero_point.fill_(point)
        z = np.expm1(shift + (0.4 if point == 0.4 else zero))
        expected = np.column_stack(rest.encode(noisy, z))
        found = prepare(noisy, dictionary, rest).features
        np.testing.assert_allclose(found[:, -3:], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[:, :-3], prepare(noisy, dictionary).features)
    dictionary.zero_point.fill_(float("nan"))
