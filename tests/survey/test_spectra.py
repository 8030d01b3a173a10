import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

L = 7781


def test_the_desi_grid_is_the_default():
    spectra = Spectra.from_arrays(np.ones((2, L)), ivar=np.ones(L))
    assert spectra.wavelength[0, 0] == 3600
    assert spectra.wavelength[1, -1] == pytest.approx(9824)
    assert spectra.ids.tolist() == ["0", "1"]


def test_other_lengths_need_a_wavelength():
    with pytest.raises(ValueError, match="100 pixels, the DESI grid 7781"):
        Spectra.from_arrays(np.ones((2, 100)))


@pytest.mark.parametrize("bad", [np.nan, -1.0, 0.0, np.inf])
def test_pixels_without_a_finite_positive_ivar_are_masked(bad):
    ivar = np.ones((1, 10))
    ivar[0, 3] = bad
    spectra = Spectra.from_arrays(np.ones((1, 10)), ivar=ivar, wavelength=np.arange(10.0) + 4000)
    assert np.flatnonzero(spectra.mask[0]).tolist() == [3]
    assert spectra.ivar[0, 3] == spectra.flux[0, 3] == 0


def test_units_are_converted():
    flux = np.full((1, 10), 2.0)
    spectra = Spectra.from_arrays(
        flux, ivar=np.full(10, 4.0), wavelength=np.arange(10.0) + 4000, unit="W m-2 um-1"
    )
    # 1 W/m²/µm = 1e7 erg/s / 1e4 cm² / 1e4 Å = 0.1 erg/s/cm²/Å
    np.testing.assert_allclose(spectra.flux, 2e16, rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, 4e-32, rtol=1e-6)


def test_units_of_something_else_are_refused():
    with pytest.raises(ValueError, match="'Jy' is not a flux density per wavelength"):
        Spectra.from_arrays(np.ones((1, 10)), wavelength=np.arange(10.0), unit="Jy")


@pytest.mark.parametrize(
    "wavelength", [np.arange(10.0)[::-1], np.full(10, 5.0), np.full(10, np.nan), np.arange(9.0)]
)
def test_bad_wavelengths_are_refused(wavelength):
    with pytest.raises(ValueError, match="wavelength"):
        Spectra.from_arrays(np.ones((1, 10)), wavelength=wavelength)


def test_rows_that_are_mostly_masked_are_named():
    flux = np.ones((3, 10))
    flux[2, :6] = np.nan
    with pytest.raises(ValueError, match=r"rows 2 \(id 2\)"):
        Spectra.from_arrays(flux, wavelength=np.arange(10.0), ivar=np.ones(10))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0])
def test_noise_without_ivar_is_measured(sigma):
    grid = desi_grid()
    smooth = 5 + np.sin(grid / 500)
    noise = np.random.default_rng(0).normal(scale=sigma, size=(4, L))
    flux = smooth + noise
    flux[0, 50], flux[1, 60] = np.nan, np.inf
    spectra = Spectra.from_arrays(flux)
    assert spectra.mask.sum() == 2
    spectra = Spectra.from_arrays(np.where(np.isfinite(flux), flux, 5))
    np.testing.assert_allclose(spectra.ivar**-0.5, sigma, rtol=0.06)


def test_masked_pixels_are_filled_along_a_line():
    grid = np.array([1.0, 2.0, 4.0, 5.0, 7.0, 8.0])
    mask = np.array([[False, True, True, False, False, True]])
    flux = np.where(mask, 99, 10 * grid)
    filled = Spectra.from_arrays(flux, wavelength=grid, ivar=np.ones(6), mask=mask).filled()
    np.testing.assert_allclose(filled[0], [10, 20, 40, 50, 70, 70])


def test_slices_and_concatenation_keep_rows_together():
    rng = np.random.default_rng(0)
    spectra = Spectra.from_arrays(
        rng.normal(size=(4, 10)), wavelength=np.arange(10.0), ivar=np.ones(10), ids=list("abcd")
    )
    again = Spectra.concatenate([spectra[[1]], spectra[2:], spectra[0]])
    assert again.ids.tolist() == list("bcda")
    np.testing.assert_array_equal(again.flux, spectra.flux[[1, 2, 3, 0]])
    other = Spectra.from_arrays(np.ones((1, 9)), wavelength=np.arange(9.0), ivar=np.ones(9))
    with pytest.raises(ValueError, match="rebin"):
        Spectra.concatenate([spectra, other])


def test_one_grid_is_kept_once():
    spectra = Spectra.from_arrays(np.ones((4, L)), ivar=np.ones(L))
    parts = [spectra[[2, 0]], spectra[1]]
    for part in (*parts, Spectra.concatenate(parts)):
        assert part.wavelength.shape == part.flux.shape
        assert part.wavelength.strides[0] == 0
    other = Spectra.from_arrays(np.ones((1, L)), ivar=np.ones(L), wavelength=desi_grid() + 1)
    both = Spectra.concatenate([spectra, other])
    np.testing.assert_array_equal(both.wavelength[:, 0], [3600] * 4 + [3601])


@given(st.lists(st.sampled_from([0.0, 0.5, 20.0]), min_size=1, max_size=8))
def test_by_grid_visits_each_row_once_with_its_own_wavelengths(shifts):
    wavelength = np.arange(6.0) + 4000 + np.array(shifts)[:, None]
    spectra = Spectra.from_arrays(np.ones((len(shifts), 6)), wavelength=wavelength, ivar=np.ones(6))
    seen = np.zeros(len(shifts), int)
    for rows, grid in spectra.by_grid():
        seen[rows] += 1
        assert (wavelength[rows] == grid).all()
    assert (seen == 1).all()


@pytest.mark.parametrize("name", ["wavelength", "ivar", "mask"])
def test_shapes_must_agree(name):
    good = {
        "ids": np.array(["a"]),
        "wavelength": np.arange(4.0)[None],
        "flux": np.ones((1, 4)),
        "ivar": np.ones((1, 4)),
        "mask": np.zeros((1, 4), bool),
        "ra": np.zeros(1),
        "dec": np.zeros(1),
    }
    with pytest.raises((ValueError, TypeCheckError), match=name):
        Spectra(**good | {name: good[name][:, :3]})
