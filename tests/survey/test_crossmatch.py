import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appulse.survey.crossmatch import pair
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra


def _images(ra, dec, ids=None):
    flux = np.arange(len(ra) * 12.0).reshape(-1, 3, 2, 2)
    return Images.from_arrays(flux, ids=ids, ra=ra, dec=dec)


def _spectra(ra, dec, ids=None):
    flux = np.arange(len(ra) * 4.0).reshape(-1, 4)
    grid = np.arange(4.0) + 4000
    return Spectra.from_arrays(flux, wavelength=grid, ivar=np.ones(4), ids=ids, ra=ra, dec=dec)


ARCSEC = 1 / 3600


def test_pairs_unmatched_and_ambiguous():
    # 0: clear; 1: alone; 2 and 3: both near one spectrum; 4: two spectra near it
    ra = np.array([10.0, 20, 30, 30, 40])
    images = _images(ra, np.array([80, 0, 0, 0.4 * ARCSEC, 0]))
    near_pole = 0.9 * ARCSEC / np.cos(np.radians(80))
    spectra = _spectra(
        np.array([40, 40, 30, 10 + near_pole, 50]),
        np.array([0, 0.5 * ARCSEC, 0, 80, 0]),
        ids=list("vwxyz"),
    )
    pairing = pair(images, spectra)
    assert pairing.image_rows.tolist() == [0]
    assert pairing.spectrum_rows.tolist() == [3]
    assert pairing.separation == pytest.approx(0.9, abs=1e-4)
    assert pairing.unmatched_images.tolist() == [1]
    assert pairing.ambiguous_images.tolist() == [2, 3, 4]
    assert pairing.unmatched_spectra.tolist() == [4]
    assert pairing.ambiguous_spectra.tolist() == [0, 1, 2]
    survey = pairing.survey()
    assert survey.ids.tolist() == ["y"]
    assert survey.columns["image_id"].tolist() == ["0"]
    np.testing.assert_array_equal(survey.images.flux[0], images.flux[0])
    np.testing.assert_array_equal(survey.spectra.flux[0], spectra.flux[3])


def test_radius_and_the_wrap_at_zero_hours():
    images = _images(np.array([0.2 * ARCSEC]), np.zeros(1))
    spectra = _spectra(np.array([360 - 0.2 * ARCSEC]), np.zeros(1))
    assert len(pair(images, spectra, radius=0.5)) == 1
    assert len(pair(images, spectra, radius=0.3)) == 0


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
)
def test_ids_against_counting(left, right):
    nan = np.full(8, np.nan)
    pairing = pair(
        _images(nan[: len(left)], nan[: len(left)], left),
        _spectra(nan[: len(right)], nan[: len(right)], right),
        by="id",
    )
    clear = [x for x in left if left.count(x) == 1 == right.count(x)]
    assert [left[i] for i in pairing.image_rows] == clear
    assert [right[j] for j in pairing.spectrum_rows] == clear
    assert [left[i] for i in pairing.unmatched_images] == [x for x in left if x not in right]
    assert [right[j] for j in pairing.unmatched_spectra] == [x for x in right if x not in left]
    assert len(pairing) + len(pairing.unmatched_images) + len(pairing.ambiguous_images) == len(left)
    assert len(pairing) + len(pairing.unmatched_spectra) + len(pairing.ambiguous_spectra) == len(
        right
    )


@given(st.integers(0, 2**31))
def test_positions_against_all_distances(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 6 * ARCSEC, (2, 7)), rng.uniform(0, 6 * ARCSEC, (2, 6))
    pairing = pair(_images(*a), _spectra(*b), radius=1.0)
    distance = np.hypot(a[0][:, None] - b[0], a[1][:, None] - b[1]) / ARCSEC
    if (np.abs(distance - 1) < 1e-3).any():
        return
    near = distance < 1
    clear = near & (near.sum(0) == 1) & (near.sum(1) == 1)[:, None]
    rows, columns = np.nonzero(clear)
    np.testing.assert_array_equal(pairing.image_rows, rows)
    np.testing.assert_array_equal(pairing.spectrum_rows, columns)
    np.testing.assert_allclose(pairing.separation, distance[rows, columns], atol=1e-4)


def test_rows_without_a_position_are_set_aside():
    """Neither unmatched nor a reason to stop: nan, beyond the pole, and other sentinels."""
    images = _images(np.array([1.0, np.nan, -10.0]), np.zeros(3), ["a", "b", "c"])
    ra, dec = np.array([350.0, 2, -999, 1, 5]), np.array([0.0, 100, 0, 0, 5])
    pairing = pair(images, _spectra(ra, dec, list("vwxyz")))
    assert pairing.survey().ids.tolist() == ["y", "v"]  # -10 is 350
    assert pairing.left_out() == {
        "unplaced_images": ["b"],
        "unplaced_spectra": ["w", "x"],
        "unmatched_images": [],
        "unmatched_spectra": ["z"],
        "ambiguous_images": [],
        "ambiguous_spectra": [],
    }
    by_id = pair(images, _spectra(ra, dec, list("vwxyb")), by="id")
    assert by_id.survey().ids.tolist() == ["b"]
    assert by_id.left_out()["unplaced_images"] == []


def test_a_side_without_any_position_is_an_error():
    with pytest.raises(ValueError, match="none of the 2 images has a position"):
        pair(_images(np.full(2, np.nan), np.zeros(2)), _spectra(np.ones(1), np.zeros(1)))


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan])
def test_the_radius_is_positive(radius):
    with pytest.raises(ValueError, match="radius"):
        pair(_images(np.ones(1), np.ones(1)), _spectra(np.ones(1), np.ones(1)), radius=radius)


def test_no_pair_makes_no_survey():
    pairing = pair(_images(np.ones(1), np.ones(1)), _spectra(np.zeros(1), np.zeros(1)))
    with pytest.raises(ValueError, match="no pair among 1 images and 1 spectra"):
        pairing.survey()
