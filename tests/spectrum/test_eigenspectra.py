import csv

import numpy as np
import pytest

from appulse.spectrum.eigenspectra import GRID, Eigenspectra
from appulse.spectrum.log_grid import rebin
from appulse.spectrum.rest import GREY, RestConfig
from appulse.survey.readers import read_spectra
from appulse.survey.rejects import Rejects
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

CONFIG = RestConfig(components=2, blue=1300.0, red=9850.0, rounds=6)
LINES = (1909, 2799, 3728, 4863, 5008, 6565)  # Å at rest


def spectra(n, seed):
    """Lines and a break, of any strength, from z = 0 to 1.7, with a tilt that is not theirs."""
    rng, grid = np.random.default_rng(seed), desi_grid()
    z = rng.uniform(0.01, 1.7, n)
    rest = grid / (1 + z[:, None])
    flux = 1 + rng.uniform(0.2, 1, (n, 1)) * (rest > 4000)
    strength = rng.uniform(0.5, 2, (n, 1))
    for line in LINES:
        flux += strength * np.exp(-0.5 * ((rest - line) / 4) ** 2)
    flux = flux * (1 + 0.3 * rng.uniform(-1, 1, (n, 1)) * (grid / 6700 - 1))
    flux += rng.normal(0, 0.3, flux.shape)
    return Spectra.from_arrays(flux, ivar=np.full(len(grid), 0.3**-2)), z


def left_over(data, design):
    """Sum of squares of what the rows of a design do not explain."""
    return np.sum((data - design.T @ np.linalg.lstsq(design.T, data)[0]) ** 2)


@pytest.fixture(scope="module")
def eigenspectra():
    return Eigenspectra.learn(*spectra(120, seed=0), CONFIG)


def test_redshifts_of_new_spectra_are_found_far_out(eigenspectra):
    new, z = spectra(40, seed=1)
    found, gain = eigenspectra.scan(new, 0.0, 1.75).proposals(3)
    assert np.mean(np.abs(found[:, 0] - z) / (1 + z) < 0.001) > 0.9
    assert (np.diff(gain, axis=1) <= 0).all()


def test_gain_is_that_of_least_squares_written_out(eigenspectra):
    """Weighted designs of templates and polynomials, solved by numpy at some redshifts."""
    new, _ = spectra(2, seed=2)
    scan = eigenspectra.scan(new, 0.1, 0.4)
    flux, ivar = (x.double().numpy() for x in rebin(new, GRID))
    scale = np.median(np.abs(flux), axis=1, keepdims=True)
    flux, ivar = np.clip(flux / scale, -5, 20), ivar * scale**2
    root = np.sqrt(ivar / (1 + ivar * GREY**2))
    curves = np.polynomial.legendre.legvander(np.linspace(-1, 1, GRID.bins), 2).T
    zero = np.log(GRID.blue / CONFIG.blue)
    for row, place in ((0, 0), (0, 211), (1, 97)):
        shift = round((zero - scan.log1p_redshift[place].item()) / GRID.bin)
        moved = eigenspectra.templates[:, shift : shift + GRID.bins].double().numpy()
        alone, both = (
            left_over(root[row] * flux[row], root[row] * design)
            for design in (curves, np.concatenate([moved, curves]))
        )
        assert scan.alone[row].item() == pytest.approx(alone, rel=1e-4)
        assert scan.gain[row, place].item() == pytest.approx(alone - both, rel=1e-3)


def test_an_object_is_of_the_class_that_fits_best(eigenspectra):
    """Templates without lines fit galaxies worse, and chi² of the right ones is about 1."""
    new, _ = spectra(10, seed=3)
    smooth = np.linspace(1200, 9900, 4000)
    others = Eigenspectra.from_arrays(smooth, np.stack([smooth, np.sin(smooth / 900)]))
    right, wrong = (e.scan(new, 0.0, 1.7).chi2 for e in (eigenspectra, others))
    assert (right < wrong).all()
    assert 0.5 < np.median(right) < 1.5


def test_the_last_bin_of_a_range_may_end_beyond_the_templates(eigenspectra):
    new, _ = spectra(2, seed=5)
    scan = eigenspectra.scan(new, 1.5, eigenspectra.highest + GRID.bin)
    assert scan.log1p_redshift[0] == pytest.approx(np.log1p(eigenspectra.highest))
    exact = eigenspectra.scan(new, 1.5, eigenspectra.highest)
    np.testing.assert_array_equal(scan.gain, exact.gain)


def test_ranges_beyond_the_templates_are_refused(eigenspectra):
    new, _ = spectra(1, seed=4)
    with pytest.raises(ValueError, match="begin at 1300 Å"):
        eigenspectra.scan(new, 0.0, 2.5)
    with pytest.raises(ValueError, match="range that rises"):
        eigenspectra.scan(new, 0.5, 0.4)
    with pytest.raises(ValueError, match=r"0\.001 wide; expected 0\.0006"):
        Eigenspectra.learn(new, np.zeros(1), RestConfig(bin=1e-3))


def test_published_templates_give_the_pipeline_s_redshifts(shared):
    """SDSS galaxies by SDSS's own eigenspectra, as its pipeline measured them."""
    from astropy.io import fits

    with fits.open(shared / "data/templates/sdss_eigen/spEigenGal-55740.fits") as file:
        flux, header = file[0].data, file[0].header
        steps = header["COEFF0"] + header["COEFF1"] * np.arange(flux.shape[1])
    path = shared / "data/real/spectra_sdss"
    rejects = Rejects()
    real = read_spectra(str(path.with_suffix(".npz")), rejects=rejects)
    with open(f"{path}_meta.csv") as file:
        rows = list(csv.DictReader(file))
    dropped = {reject.row for reject in rejects}
    rows = [row for i, row in enumerate(rows) if i not in dropped]
    good = [i for i, r in enumerate(rows) if (r["spec_class"], r["zwarning"]) == ("GALAXY", "0")]
    z = np.array([float(rows[i]["z"]) for i in good])
    found, _ = Eigenspectra.from_arrays(10**steps, flux).scan(real[good], -0.002, 0.9).proposals(1)
    assert len(z) == 46
    assert np.max(np.abs(found[:, 0] - z) / (1 + z)) < 6e-4
