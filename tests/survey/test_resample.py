import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appulse.survey.images import Images
from appulse.survey.resample import fit, pixel_edges, rebin, to_grid, to_scale
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid


def _gaussians(size, scale, fwhm=1.3, **kwargs):
    """Sources of flux 1, 2, 3 in three bands, integrated over pixels; not quite centred."""
    from scipy.special import erf

    sigma = fwhm / 2.3548
    edges = (np.arange(size + 1) - size / 2) * scale
    y, x = (np.diff(erf((edges - at) / sigma / np.sqrt(2)) / 2) for at in (0.21, -0.4))
    flux = np.stack([k * y[:, None] * x for k in (1, 2, 3)])[None]
    return Images.from_arrays(flux, pixel_scale=scale, **kwargs)


def _moments(image, scale):
    """Flux, centre and rms width along x in arcsec."""
    x = (np.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2) * scale
    profile = image.sum(axis=0)
    flux = profile.sum()
    centre = (profile * x).sum() / flux
    return flux, centre, np.sqrt((profile * (x - centre) ** 2).sum() / flux)


@pytest.mark.parametrize(("size", "scale"), [(256, 0.1), (101, 0.4), (64, 0.5), (152, 0.27)])
def test_sources_keep_flux_place_and_width(size, scale):
    new = to_scale(_gaussians(size, scale))
    assert new.pixel_scale.tolist() == [0.262]
    for band in range(3):
        flux, centre, width = _moments(new.flux[0, band].astype(float), 0.262)
        assert flux == pytest.approx(band + 1, rel=2e-3)
        assert centre == pytest.approx(-0.4, abs=2e-3)
        # a pixel of width p adds p²/12 to the variance
        assert width == pytest.approx(np.hypot(1.3 / 2.3548, 0.262 / np.sqrt(12)), rel=0.02)


def test_resampling_matches_the_scene_drawn_at_the_new_scale():
    new, direct = to_scale(_gaussians(256, 0.1)), _gaussians(96, 0.262)
    assert new.flux.shape == direct.flux.shape
    np.testing.assert_allclose(new.flux, direct.flux, atol=2e-3 * direct.flux.max())


@given(st.integers(20, 60), st.floats(0.08, 0.8), st.integers(0, 2**31))
def test_flux_is_conserved_to_the_last_digit(size, scale, seed):
    """Of a random image, in the part that the new one covers, when pixels fall together."""
    rng = np.random.default_rng(seed)
    inner = rng.normal(size=(1, 3, size, size))
    flux = np.pad(inner, ((0, 0), (0, 0), (24, 24), (24, 24)))
    new = to_scale(Images.from_arrays(flux, pixel_scale=scale))
    reach = new.flux.shape[-1] * 0.262 / scale
    if reach < size + 16:
        return
    tolerance = 1e-4 * np.abs(inner).sum()
    np.testing.assert_allclose(new.flux.sum((2, 3)), flux.sum((2, 3)), atol=tolerance)


@given(st.integers(9, 80), st.floats(0.05, 1.0))
def test_the_new_size_fits_inside_with_the_same_parity(size, scale):
    assume(size * scale >= 2 * 0.262)  # what is smaller makes no image
    n = to_scale(_gaussians(size, scale)).flux.shape[-1]
    if abs(scale / 0.262 - 1) < 0.01:
        assert n == size
    else:
        assert n * 0.262 <= size * scale * (1 + 1e-6) < (n + 2) * 0.262
        assert (n - size) % 2 == 0


def test_colours_are_averaged():
    flat = Images.from_arrays(np.full((1, 3, 64, 64), 0.6), pixel_scale=0.1, kind="rgb")
    np.testing.assert_allclose(to_scale(flat).flux, 0.6, rtol=1e-4)


def test_bad_pixels_mask_what_they_cover_and_spoil_nothing_else():
    images = _gaussians(128, 0.1)
    mask = np.zeros(images.mask.shape, bool)
    mask[0, 0, 30:60, 30:60] = True
    spoilt = Images.from_arrays(np.where(mask, 1e4, images.flux), pixel_scale=0.1, mask=mask)
    new, clean = to_scale(spoilt), to_scale(images)
    assert not new.mask[0, 1:].any()
    area = new.mask[0, 0].sum() * 0.262**2
    assert area == pytest.approx(9.0, rel=0.2)
    np.testing.assert_allclose(new.flux[~new.mask], clean.flux[~new.mask], atol=0.02)


def test_nearly_the_right_scale_is_left_alone():
    images = _gaussians(40, 0.2625)
    new = to_scale(images)
    np.testing.assert_array_equal(new.flux, images.flux)
    assert new.pixel_scale[0] == 0.262


def test_hardly_any_image_is_an_error():
    with pytest.raises(ValueError, match="make no image"):
        to_scale(Images.from_arrays(np.ones((1, 3, 2, 2)), pixel_scale=0.05))


@pytest.mark.parametrize("old", [3, 4, 7, 8, 11, 12, 149, 152])
@pytest.mark.parametrize("size", [4, 7, 144])
def test_fit_keeps_the_centre(old, size):
    """Offsets as torchvision's CenterCrop: round half to even; padding (n // 2) before."""
    flux = np.arange(1, old * old + 1.0).reshape(old, old)
    images = Images.from_arrays(np.broadcast_to(flux, (2, 3, old, old)))
    got = fit(images, size)
    assert got.flux.shape == (2, 3, size, size)
    if old >= size:
        start = round((old - size) / 2)
        np.testing.assert_array_equal(got.flux[1, 2], flux[start:, start:][:size, :size])
        assert not got.mask.any()
    else:
        before = (size - old) // 2
        inner = np.s_[..., before : before + old, before : before + old]
        np.testing.assert_array_equal(got.flux[inner], images.flux)
        assert (~got.mask).sum() == images.flux.size
        assert not got.mask[inner].any()


def test_fit_pads_one_axis_and_crops_the_other():
    got = fit(Images.from_arrays(np.ones((1, 3, 4, 10))), 6)
    assert got.flux.sum() == 3 * 4 * 6
    assert got.mask[0, 0, :, 0].tolist() == [True, False, False, False, False, True]


def _slow_rebin(wavelength, flux, ivar, mask, grid):
    """One pixel after another."""
    old, new = pixel_edges(wavelength), pixel_edges(grid)
    out = np.zeros((3, len(grid)))
    for j in range(len(grid)):
        total = variance = seen = 0.0
        for i in range(len(wavelength)):
            w = min(old[i + 1], new[j + 1]) - max(old[i], new[j])
            if w > 0 and not mask[i] and ivar[i] > 0:
                total, variance, seen = total + w * flux[i], variance + w * w / ivar[i], seen + w
        if seen < 0.5 * (new[j + 1] - new[j]):
            out[2, j] = True
        else:
            out[:2, j] = total / seen, seen**2 / variance
    return out


@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(3, 40))
def test_rebinning_agrees_with_a_slow_version(seed, old, new):
    rng = np.random.default_rng(seed)
    wavelength = 4000 + np.cumsum(rng.uniform(1, 1.4, old))
    grid = 4000 + rng.uniform(-5, 5) + np.cumsum(rng.uniform(0.3, 2, new))
    flux, ivar = rng.normal(size=(2, old)), rng.uniform(0.1, 3, (2, old))
    mask = rng.random((2, old)) < 0.2
    got = rebin(wavelength, flux, ivar, mask, grid)
    for row in range(2):
        expected = _slow_rebin(wavelength, flux[row], ivar[row], mask[row], grid)
        np.testing.assert_array_equal(got[2][row], expected[2].astype(bool))
        np.testing.assert_allclose(got[0][row], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[1][row], expected[1], rtol=1e-5)


@given(st.sets(st.integers(3, 76)), st.floats(0, 3))
def test_pixels_that_are_not_there_are_as_bad_ones(missing, shift):
    """Nothing is made up where a table leaves its bad pixels out, or where a chip ends."""
    rng = np.random.default_rng(0)
    wavelength = 4000 + np.arange(80.0)
    grid = 3990 + shift + 1.7 * np.arange(60)
    flux, ivar = rng.normal(size=(1, 80)), rng.uniform(0.1, 3, (1, 80))
    gone = np.isin(np.arange(80), [*missing])
    alone = np.flatnonzero(gone[:-2] & ~gone[1:-1] & gone[2:]) + 1
    gone[alone[1:][np.diff(alone) == 2]] = True  # every other pixel missing is a coarser grid
    gone[alone] = True
    masked = rebin(wavelength, flux, ivar, gone[None], grid)
    left_out = rebin(wavelength[~gone], *(a[:, ~gone] for a in (flux, ivar, gone[None])), grid)
    np.testing.assert_array_equal(masked[2], left_out[2])
    for a, b in zip(masked[:2], left_out[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_longer_pixels_of_another_arm_are_no_gap():
    wavelength = np.concatenate([np.arange(4000, 4020, 1.0), np.arange(4020.5, 4060, 2.0)])
    ones = np.ones((1, len(wavelength)))
    flux, _, mask = rebin(wavelength, ones, ones, ones > 1, np.arange(4001, 4055, 1.0))
    assert not mask.any()
    np.testing.assert_allclose(flux, 1)


def test_a_wrong_pixel_scale_does_not_fill_the_memory():
    images = Images.from_arrays(np.ones((1, 3, 152, 152)), pixel_scale=262)
    with pytest.raises(ValueError, match=r"image of 152 pixels of 1e\+03 times .* the limit is"):
        to_scale(images)


@given(st.integers(0, 2**31), st.integers(5, 60))
def test_integrated_flux_is_conserved(seed, n):
    rng = np.random.default_rng(seed)
    wavelength = 4000 + np.cumsum(rng.uniform(1, 1.4, n))
    edges = pixel_edges(wavelength)
    step = rng.uniform(0.3, 3)
    grid = np.arange(edges[0] - 2 * step, edges[-1] + 3 * step, step)
    # a grid that begins and ends exactly where the spectrum does sees all of it
    inside = edges[0] + (np.arange(n) + 0.5) * (edges[-1] - edges[0]) / n
    flux = rng.normal(size=(1, n))
    total = (flux * np.diff(edges)).sum()
    good, ivar = np.zeros((1, n), bool), np.ones((1, n))
    new = rebin(wavelength, flux, ivar, good, inside)[0]
    assert (new * np.diff(pixel_edges(inside))).sum() == pytest.approx(total, abs=1e-4)
    _, _, bad = rebin(wavelength, flux, ivar, good, grid)
    assert bad[0, 0]
    assert bad[0, -1]


def test_errors_follow_the_number_of_pixels():
    """Averaging k equal pixels divides the variance by k; a finer grid repeats it."""
    wavelength = np.arange(1000.0, 2000)
    ivar, mask = np.full((1, 1000), 4.0), np.zeros((1, 1000), bool)
    flux = np.random.default_rng(0).normal(scale=0.5, size=(1, 1000))
    coarse, coarse_ivar, _ = rebin(wavelength, flux, ivar, mask, np.arange(1001.5, 1990, 4))
    np.testing.assert_allclose(coarse_ivar, 16, rtol=1e-5)
    assert coarse.std() == pytest.approx(0.25, rel=0.15)
    same, same_ivar, _ = rebin(wavelength, flux, ivar, mask, wavelength)
    np.testing.assert_allclose(same, flux, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(same_ivar, 4, rtol=1e-5)


def test_a_line_keeps_its_place_and_flux_from_log_to_linear():
    wavelength = 10 ** (3.58 + 1e-4 * np.arange(3840))
    line = np.exp(-0.5 * ((wavelength - 6564.6) / 3) ** 2)
    spectra = Spectra.from_arrays(
        line[None], wavelength=wavelength, ivar=np.ones(3840), ids=["a"], ra=3.0
    )
    new = to_grid(spectra)
    flux = new.flux[0].astype(float)
    grid = desi_grid()
    assert flux.sum() * 0.8 == pytest.approx(3 * np.sqrt(2 * np.pi), rel=1e-4)
    assert (flux * grid).sum() / flux.sum() == pytest.approx(6564.6, abs=0.01)
    assert new.mask[0, grid < 3800].all()
    assert not new.mask[0, (grid > 3810) & (grid < 9190)].any()
    assert new.ra[0] == 3
    assert (new.ivar[new.mask] == 0).all()


def test_rows_of_different_grids_come_out_as_alone():
    rng = np.random.default_rng(0)
    wavelength = np.array([3600.0, 3700.0, 3600.0])[:, None] + 1.0 * np.arange(6200)
    spectra = Spectra.from_arrays(
        rng.normal(size=wavelength.shape), wavelength=wavelength, ivar=np.ones(6200)
    )
    together = to_grid(spectra)
    for row in range(3):
        alone = to_grid(spectra[row])
        np.testing.assert_array_equal(together.flux[row], alone.flux[0])
        np.testing.assert_array_equal(together.mask[row], alone.mask[0])


def test_the_same_grid_changes_nothing():
    spectra = Spectra.from_arrays(np.random.default_rng(0).normal(size=(2, 7781)))
    new = to_grid(spectra)
    np.testing.assert_array_equal(new.flux, spectra.flux)
    np.testing.assert_array_equal(new.ivar, spectra.ivar)


def test_spectra_that_the_grid_hardly_sees_are_named():
    grid = np.arange(3600.0, 5000)
    spectra = Spectra.from_arrays(
        np.ones((1, 1400)), wavelength=grid, ivar=np.ones(1400), ids=["blue"]
    )
    with pytest.raises(ValueError, match="blue"):
        to_grid(spectra)
