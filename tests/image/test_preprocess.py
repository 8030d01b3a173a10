import numpy as np
import pytest
import torch

from appulse.image.preprocess import (
    FEATURES,
    ImageInputs,
    prepare,
    random_dihedral,
    to_nanomaggies,
)
from appulse.survey.images import Images
from appulse.survey.photometry import APERTURES, SOFTENING
from appulse.survey.rgb import to_rgb
from appulse.units import PIXEL_SCALE


def gaussian(total, sigma, size=80, pixel_scale=PIXEL_SCALE):
    """A round source of these total fluxes in g, r, z and this sigma in arcsec."""
    axis = (np.arange(size) - (size - 1) / 2) * pixel_scale
    profile = np.exp(-(axis**2 + axis[:, None] ** 2) / (2 * sigma**2))
    profile *= pixel_scale**2 / (2 * np.pi * sigma**2)
    return (np.asarray(total)[:, None, None] * profile)[None].astype(np.float32)


@pytest.fixture
def lopsided():
    """Images without any symmetry."""
    rng = np.random.default_rng(0)
    flux = rng.exponential(0.1, (4, 3, 70, 70)).astype(np.float32)
    flux[:, :, :30, :10] += 1
    mask = np.zeros(flux.shape, bool)
    mask[1, :, 20:23, 25] = True
    return Images.from_arrays(flux, mask=mask)


def turned(x):
    """The 8 symmetries of a square, by NumPy."""
    return [np.rot90(y, k, (2, 3)) for y in (x, np.swapaxes(x, 2, 3)) for k in range(4)]


def test_features_are_the_light_of_a_source_inside_circles():
    total, sigma = [3.0, 20.0, 150.0], 1.3
    features = prepare(Images.from_arrays(gaussian(total, sigma)), 48).features
    inside = 1 - np.exp(-(np.array(APERTURES) ** 2) / (2 * sigma**2))
    expected = np.arcsinh(np.outer(total, inside) / SOFTENING)
    np.testing.assert_allclose(features.reshape(3, -1), expected, atol=5e-3)
    assert features.shape == (1, FEATURES)


def test_cutouts_are_the_centre_and_features_use_all_of_the_image():
    images = Images.from_arrays(gaussian([1, 2, 3], 4.0))
    inputs = prepare(images, 48)
    np.testing.assert_array_equal(inputs.flux, images.flux[:, :, 16:64, 16:64])
    assert not inputs.mask.any()
    assert inputs.pixel_scale.tolist() == pytest.approx([PIXEL_SCALE])
    torch.testing.assert_close(inputs.features, prepare(images, 24).features)


def test_small_images_are_padded_and_the_mask_shows_it():
    inputs = prepare(Images.from_arrays(gaussian([1, 2, 3], 1.0, size=40)), 48)
    assert inputs.flux.shape == (1, 3, 48, 48)
    seen = ~inputs.mask[0, 0].numpy()
    assert seen.sum() == 40**2
    assert seen[4:44, 4:44].all()
    assert (inputs.flux.numpy()[~np.broadcast_to(seen, (1, 3, 48, 48))] == 0).all()


def test_other_pixel_scales_come_out_alike():
    """A source seen with pixels twice as small is the same source."""
    usual = prepare(Images.from_arrays(gaussian([5, 9, 14], 1.5)), 48)
    fine = gaussian([5, 9, 14], 1.5, size=160, pixel_scale=PIXEL_SCALE / 2)
    inputs = prepare(Images.from_arrays(fine, pixel_scale=PIXEL_SCALE / 2), 48)
    torch.testing.assert_close(inputs.pixel_scale, usual.pixel_scale)
    torch.testing.assert_close(inputs.features, usual.features, atol=3e-3, rtol=0)
    torch.testing.assert_close(inputs.flux, usual.flux, atol=2e-3, rtol=0.02)


def test_colours_become_flux_again():
    images = Images.from_arrays(gaussian([0.4, 0.9, 1.6], 1.5))
    rgb = Images.from_arrays(to_rgb(images.flux), kind="rgb")
    expected, inputs = prepare(images, 48), prepare(rgb, 48)
    assert not inputs.mask.any()
    torch.testing.assert_close(inputs.flux, expected.flux, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(inputs.features, expected.features, atol=1e-2, rtol=1e-3)


def test_masked_pixels_are_filled_from_their_neighbours():
    flux = np.full((1, 3, 60, 60), 2.0, np.float32)
    mask = np.zeros(flux.shape, bool)
    mask[0, 1, 20:23, 30:32] = True
    spoilt = np.where(mask, 1e4, flux)
    inputs = prepare(Images.from_arrays(spoilt, mask=mask), 48)
    np.testing.assert_allclose(inputs.flux, 2, rtol=1e-5)
    np.testing.assert_array_equal(inputs.mask, mask[:, :, 6:54, 6:54])
    whole = prepare(Images.from_arrays(flux), 48)
    torch.testing.assert_close(inputs.features, whole.features)


def test_a_batch_of_one_equals_its_row(lopsided):
    whole = prepare(lopsided, 48)
    for row in range(len(lopsided)):
        for alone, together in zip(prepare(lopsided[row], 48), whole, strict=True):
            torch.testing.assert_close(alone[0], together[row])


def test_all_eight_turns_occur_and_nothing_else(lopsided):
    """Flux and mask move together; aperture fluxes do not change, as those of a turned image."""
    inputs = prepare(lopsided, 48)
    fluxes, masks = turned(inputs.flux.numpy()), turned(inputs.mask.numpy())
    seen = []
    for seed in range(100):
        torch.manual_seed(seed)
        result = random_dihedral(inputs)
        (which,) = (i for i, flux in enumerate(fluxes) if np.array_equal(result.flux, flux))
        np.testing.assert_array_equal(result.mask, masks[which])
        assert result.features is inputs.features
        assert result.pixel_scale is inputs.pixel_scale
        seen.append(which)
    counts = np.bincount(seen, minlength=8)
    assert (counts > 3).all()  # 12.5 expected of each
    for flux, mask in zip(turned(lopsided.flux), turned(lopsided.mask), strict=True):
        features = prepare(Images.from_arrays(flux, mask=mask), 48).features
        torch.testing.assert_close(features, inputs.features)


def test_turning_keeps_every_pixel(lopsided):
    inputs = prepare(lopsided, 48)
    result = random_dihedral(inputs)
    assert isinstance(result, ImageInputs)
    for one, other in zip(result[:2], inputs[:2], strict=True):
        torch.testing.assert_close(one.flatten(2).sort(2).values, other.flatten(2).sort(2).values)


def test_whatever_is_stored_becomes_nanomaggies_at_one_scale():
    """A faint source on some sky light, as its picture and in other pixels."""
    flux = 0.02 + gaussian([2.0, 3.0, 4.0], 2.0, size=64, pixel_scale=0.524)
    seen = to_nanomaggies(Images.from_arrays(to_rgb(flux), kind="rgb", pixel_scale=0.524))
    assert (seen.kind, seen.flux.shape[2:], set(seen.pixel_scale)) == ("flux", (128, 128), {0.262})
    expected = 0.02 / 4 + gaussian([2.0, 3.0, 4.0], 2.0, size=128)
    np.testing.assert_allclose(seen.flux, expected, atol=2e-4)
    plain = Images.from_arrays(flux)
    np.testing.assert_array_equal(to_nanomaggies(plain).flux, plain.flux)
