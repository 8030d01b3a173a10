import numpy as np
import pytest
from jaxtyping import TypeCheckError

from appulse.survey.images import Images


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return Images.from_arrays(
        rng.normal(size=(5, 3, 8, 6)), ids=list("abcde"), ra=np.arange(5.0), dec=1.0
    )


def test_non_finite_pixels_become_masked_zeros():
    flux = np.ones((1, 3, 4, 4))
    flux[0, 1, 2, 3] = np.nan
    flux[0, 2, 0, 0] = np.inf
    images = Images.from_arrays(flux)
    assert images.mask.sum() == 2
    assert images.flux.sum() == 46
    assert np.isnan(flux).any()  # the caller's array is left alone


def test_a_given_mask_zeroes_the_flux():
    mask = np.zeros((1, 3, 4, 4), bool)
    mask[0, 0] = True
    images = Images.from_arrays(np.ones((1, 3, 4, 4)), mask=mask)
    assert (images.flux[0, 0] == 0).all()
    assert (images.flux[0, 1:] == 1).all()


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 4, 8, 8), (0, 3, 8, 8), (2, 3, 8, 0), ()])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises((ValueError, TypeCheckError), match=r"shape|flux"):
        Images.from_arrays(np.ones(shape))


def test_rows_that_are_mostly_masked_are_named():
    flux = np.ones((3, 3, 4, 4))
    flux[1, :2] = np.nan
    with pytest.raises(ValueError, match=r"1 of 3 rows .* rows 1 \(id y\)"):
        Images.from_arrays(flux, ids=["x", "y", "z"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pixel_scale": [0.2, -1]}, "pixel_scale must be positive"),
        ({"pixel_scale": np.nan}, "pixel_scale must be positive"),
        ({"ids": ["a"]}, r"ids has shape \(1,\)"),
        ({"ra": [1.0, 2.0, 3.0]}, r"ra"),
        ({"kind": "magnitude"}, "kind"),
    ],
)
def test_columns_are_checked(wrong, message):
    with pytest.raises((ValueError, TypeCheckError), match=message):
        Images.from_arrays(np.ones((2, 3, 4, 4)), **wrong)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (1, "b"),
        (-1, "e"),
        (slice(1, 3), "bc"),
        ([3, 0], "da"),
        (np.array([True, False, True, False, False]), "ac"),
    ],
)
def test_rows_keep_together(images, rows, ids):
    part = images[rows]
    assert part.ids.tolist() == list(ids)
    index = ["abcde".index(name) for name in ids]
    np.testing.assert_array_equal(part.flux, images.flux[index])
    np.testing.assert_array_equal(part.ra, images.ra[index])


def test_rows_are_not_named_by_floats(images):
    with pytest.raises(TypeError, match="float64"):
        images[np.array([0.0])]


def test_concatenate_undoes_slicing(images):
    again = Images.concatenate([images[:2], images[2:]])
    np.testing.assert_array_equal(again.flux, images.flux)
    assert again.ids.tolist() == images.ids.tolist()


def test_concatenate_refuses_mixtures(images):
    rgb = Images.from_arrays(np.ones((1, 3, 8, 6)), kind="rgb")
    with pytest.raises(ValueError, match="kinds"):
        Images.concatenate([images, rgb])
    with pytest.raises(ValueError, match="sizes"):
        Images.concatenate([images, Images.from_arrays(np.ones((1, 3, 8, 8)))])


def _gaussian(size=41, sigma=4.0):
    y, x = np.mgrid[:size, :size] - size // 2
    return np.exp(-(x**2 + y**2) / (2 * sigma**2))


def test_holes_are_filled_with_what_was_there():
    flux = np.broadcast_to(_gaussian(), (1, 3, 41, 41)).copy()
    mask = np.random.default_rng(0).random(flux.shape) < 0.05
    mask[0, 0, :, 17] = True  # a bad column
    filled = Images.from_arrays(flux, mask=mask).filled()
    assert np.abs(filled - flux)[mask].max() < 0.1
    np.testing.assert_array_equal(filled[~mask], flux[~mask].astype(np.float32))


def test_large_holes_are_filled_from_their_rim():
    mask = np.zeros((1, 3, 41, 41), bool)
    mask[..., 10:31, 10:31] = True
    filled = Images.from_arrays(np.where(mask, 50, 2.0), mask=mask).filled()
    np.testing.assert_allclose(filled, 2, rtol=1e-4)


def test_padding_stays_zero_while_holes_beside_it_are_filled():
    mask = np.zeros((1, 3, 20, 20), bool)
    mask[..., :4, :], mask[..., -3:] = True, True
    mask[..., 4:9, 10] = True  # touches the padding
    filled = Images.from_arrays(np.ones(mask.shape), mask=mask).filled()
    assert (filled[..., :4, :] == 0).all()
    assert (filled[..., -3:] == 0).all()
    np.testing.assert_allclose(filled[..., 4:, :-3], 1, rtol=1e-5)


def test_a_band_without_a_good_pixel_stays_zero():
    mask = np.zeros((1, 3, 6, 6), bool)
    mask[0, 1] = True
    filled = Images.from_arrays(np.ones(mask.shape), mask=mask).filled()
    assert (filled[0, 1] == 0).all()
