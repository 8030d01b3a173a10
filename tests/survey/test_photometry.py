import numpy as np
import pytest
import speclite.filters
from astropy import units
from hypothesis import assume, example, given
from hypothesis import strategies as st

from appulse.survey.images import Images
from appulse.survey.photometry import APERTURES, aperture_fluxes, band_fluxes, filter_fluxes
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid, flux_to_magnitude


def _flat(shape, mask=None, **kwargs):
    return Images.from_arrays(np.ones(shape), mask=mask, **kwargs)


@example(6.35603389275698, 0.10317357063183019, 42, 41)  # whose square rounds down
@given(st.floats(0.1, 10), st.floats(0.05, 2), st.integers(41, 44), st.integers(41, 44))
def test_a_flat_image_gives_the_area_of_the_circle(radius, scale, height, width):
    images = _flat((1, 3, height, width), pixel_scale=scale)
    area = np.pi * (radius / scale) ** 2
    assume(area > 0.01)  # pixels; less is not measured
    np.testing.assert_allclose(aperture_fluxes(images, (radius,)), area, rtol=1e-4)


@pytest.mark.parametrize("size", [64, 65])
def test_edges_are_exact_pixel_by_pixel(size):
    """Against many points thrown into each pixel."""
    fine = 40
    centre = (np.arange(size * fine) + 0.5) / fine - size / 2
    rng = np.random.default_rng(0)
    flux = rng.random((1, 3, size, size))
    for radius in (0.7, 3.3, 8.0):
        inside = centre[:, None] ** 2 + centre**2 < (radius / 0.262) ** 2
        weights = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
        expected = (flux * weights).sum(axis=(2, 3))
        got = aperture_fluxes(Images.from_arrays(flux), (radius,))[:, :, 0]
        np.testing.assert_allclose(got, expected, rtol=2e-3)


@pytest.mark.parametrize("scale", [0.262, 0.1])
def test_a_gaussian_has_its_closed_form(scale):
    sigma = 2.0  # arcsec
    offset = (np.arange(301) - 150) * scale
    flux = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2))
    flux *= scale**2 / (2 * np.pi * sigma**2)
    images = Images.from_arrays(np.broadcast_to(flux, (2, 3, 301, 301)), pixel_scale=scale)
    expected = 1 - np.exp(-np.square(APERTURES) / (2 * sigma**2))
    got = aperture_fluxes(images)
    np.testing.assert_allclose(got, np.broadcast_to(expected, (2, 3, 8)), atol=2e-3)


def test_rows_with_their_own_scale():
    images = Images.concatenate([_flat((1, 3, 96, 96), pixel_scale=s) for s in (0.2, 0.3, 0.2)])
    got = aperture_fluxes(images, (3.0,))[:, 0, 0]
    np.testing.assert_allclose(got, np.pi * 9 / np.array([0.2, 0.3, 0.2]) ** 2, rtol=1e-4)


def test_masked_pixels_are_left_out_and_made_up_for():
    rng = np.random.default_rng(0)
    mask = rng.random((2, 3, 96, 96)) < 0.3
    flux = np.where(mask, 1e6, 1.0)
    got = aperture_fluxes(Images.from_arrays(flux, mask=mask))
    area = np.pi * np.square(APERTURES) / 0.262**2
    np.testing.assert_allclose(got, np.broadcast_to(area, got.shape), rtol=1e-5)


def test_rings_are_made_up_from_themselves():
    offset = (np.arange(96) - 47.5) * 0.262
    radius = np.hypot(offset[:, None], offset)
    flux = np.broadcast_to(np.where(radius < 3, 10.0, 1.0), (1, 3, 96, 96))
    mask = np.broadcast_to((radius > 3.5) & (offset > 0), flux.shape)
    whole = aperture_fluxes(Images.from_arrays(flux), (3.0, 6.0, 9.0))
    half = aperture_fluxes(Images.from_arrays(flux, mask=mask), (3.0, 6.0, 9.0))
    np.testing.assert_allclose(half, whole, rtol=0.08)
    np.testing.assert_allclose(half[..., 0], whole[..., 0], rtol=1e-6)


def test_a_saturated_core_is_a_lower_limit_and_padding_adds_nothing():
    offset = (np.arange(96) - 47.5) * 0.262
    radius = np.hypot(offset[:, None], offset)
    mask = np.broadcast_to((radius < 1.0) | (radius > 5.0), (1, 3, 96, 96))
    flux = np.ones(mask.shape)
    images = Images(
        ids=np.array(["a"]),
        flux=np.where(mask, 0, flux).astype(np.float32),
        pixel_scale=np.array([0.262]),
        mask=mask,
        ra=np.zeros(1),
        dec=np.zeros(1),
    )
    got = aperture_fluxes(images, (0.5, 2.0, 5.4, 9.0))[0, 0]
    area = np.pi * np.square([0.5, 2.0, 5.4]) / 0.262**2
    np.testing.assert_allclose(got[:3], area, rtol=1e-5)
    assert got[3] == got[2]


def test_a_circle_larger_than_the_image_is_made_up_for():
    got = aperture_fluxes(_flat((1, 3, 20, 20)), (2.0, 2.9))
    np.testing.assert_allclose(got[..., 1], np.pi * 2.9**2 / 0.262**2, rtol=1e-5)


@pytest.mark.parametrize("radii", [(), (0.0, 1.0), (2.0, 1.0), (-1.0,)])
def test_radii_must_increase(radii):
    with pytest.raises(ValueError, match="increasing"):
        aperture_fluxes(_flat((1, 3, 8, 8)), radii)


def test_colours_have_no_flux():
    with pytest.raises(ValueError, match="to_flux"):
        aperture_fluxes(_flat((1, 3, 8, 8), kind="rgb"))


def _continuum(grid, slope):
    return 10 * (grid / 6000) ** slope


@pytest.mark.parametrize("slope", [-3.0, -1.0, 2.0])
def test_filters_agree_with_speclite(slope):
    """Over the whole curve; a second implementation with its own integration."""
    grid = np.arange(3300, 11000, 0.8)
    flux = _continuum(grid, slope)
    spectra = Spectra.from_arrays(flux[None], wavelength=grid, ivar=np.ones(len(grid)))
    ours = flux_to_magnitude(filter_fluxes(spectra)[0][0])
    bands = speclite.filters.load_filters("decam2014-g", "decam2014-r", "decam2014-z")
    unit = 1e-17 * units.erg / (units.s * units.cm**2 * units.AA)
    table = bands.get_ab_magnitudes(flux * unit, grid * units.AA)
    np.testing.assert_allclose(ours, [float(m) for m in table[0]], atol=2e-4)


def _ab_source(grid):
    """f_λ of a source of 20 nanomaggies at all wavelengths."""
    return 20 * 3631e-9 * 1e-23 * 2.99792458e18 / grid**2 / 1e-17


@pytest.mark.parametrize(("first", "last"), [(3600, 9824), (3800, 9200), (4600, 9824)])
def test_a_flat_ab_source_keeps_its_flux_however_much_is_seen(first, last):
    grid = np.arange(first, last, 0.8)
    rng = np.random.default_rng(0)
    mask = rng.random((1, len(grid))) < 0.2
    spectra = Spectra.from_arrays(
        np.where(mask, -99, _ab_source(grid)[None]),
        wavelength=grid,
        ivar=np.ones(len(grid)),
        mask=mask,
    )
    flux, ivar = filter_fluxes(spectra)
    np.testing.assert_allclose(flux, 20, rtol=1e-4)
    assert (ivar > 0).all()


def test_a_filter_that_is_hardly_seen_is_not_measured():
    grid = np.arange(3600, 8600, 0.8)
    spectra = Spectra.from_arrays(_ab_source(grid)[None], wavelength=grid, ivar=np.ones(len(grid)))
    flux, ivar = filter_fluxes(spectra)
    assert flux[0, 2] == ivar[0, 2] == 0
    assert (flux[0, :2] > 19).all()


def test_errors_are_the_scatter():
    rng = np.random.default_rng(1)
    grid = desi_grid()
    sigma = 1 + (grid > 7000) * 2
    flux = _ab_source(grid) + rng.normal(size=(400, len(grid))) * sigma
    spectra = Spectra.from_arrays(flux, ivar=np.broadcast_to(sigma**-2.0, flux.shape))
    for value, ivar in (filter_fluxes(spectra), band_fluxes(spectra)):
        pull = (value - value.mean(axis=0)) * np.sqrt(ivar)
        np.testing.assert_allclose(pull.std(axis=0), 1, atol=0.15)
        assert abs(pull.std() - 1) < 0.03


def test_bands_are_weighted_means_row_by_row():
    rng = np.random.default_rng(0)
    wavelength = np.sort(rng.uniform(3600, 9824, (5, 300)), axis=1)
    flux, ivar = rng.normal(size=(5, 300)), rng.uniform(0.1, 2, (5, 300))
    mask = rng.random((5, 300)) < 0.2
    spectra = Spectra.from_arrays(flux, wavelength=wavelength, ivar=ivar, mask=mask)
    edges = (3500.0, 5000.0, 5001.0, 9000.0)
    got, got_ivar = band_fluxes(spectra, edges)
    for row in range(5):
        for band in range(3):
            inside = (wavelength[row] >= edges[band]) & (wavelength[row] < edges[band + 1])
            inside &= ~mask[row]
            weight = ivar[row, inside].sum()
            assert got_ivar[row, band] == pytest.approx(weight, rel=1e-5)
            mean = (ivar * flux)[row, inside].sum() / weight if weight else 0
            assert got[row, band] == pytest.approx(mean, rel=1e-4, abs=1e-6)


def test_band_edges_must_increase():
    spectra = Spectra.from_arrays(np.ones((1, 10)), wavelength=np.arange(10.0), ivar=np.ones(10))
    with pytest.raises(ValueError, match="increasing"):
        band_fluxes(spectra, (5.0, 4.0))
