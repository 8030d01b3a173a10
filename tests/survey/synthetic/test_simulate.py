import multiprocessing

import numpy as np
import pytest
import torch

from appulse.survey.survey import PROPERTIES, Survey
from appulse.survey.synthetic import frozen, milkyway
from appulse.survey.synthetic.block import fibre_spectra
from appulse.survey.synthetic.morphology import CLASSES
from appulse.survey.synthetic.population import draw_population
from appulse.survey.synthetic.simulate import check_arguments, simulate, simulate_blocks
from appulse.survey.synthetic.streams import Stage, stream
from appulse.units import BANDS, PIXEL_SCALE, desi_grid, magnitude_to_flux


def fingerprint(survey: Survey) -> str:
    return frozen.fingerprint([survey])


@pytest.fixture(scope="module")
def survey():
    return simulate(300, seed=4, size=64)


def test_holds_what_it_promises(survey):
    assert len(survey) == 300
    assert survey.images.flux.shape == (300, 3, 64, 64)
    assert survey.spectra.flux.shape == (300, 7781)
    assert survey.images.flux.dtype == survey.spectra.ivar.dtype == np.float32
    np.testing.assert_array_equal(survey.spectra.wavelength[7], desi_grid())
    assert np.isfinite(survey.images.flux).all()
    assert np.isfinite(survey.spectra.flux).all()
    assert (survey.spectra.ivar > 0).all()
    assert not survey.images.mask.any()
    assert survey.ids[0] == "synthetic-4-000000000"
    assert len(set(survey.ids)) == 300


def test_labels_are_sane(survey):
    columns = survey.columns
    limits = {
        "redshift": (0.01, 0.6),
        "log_mstar": (8, 12.1),
        "age": (0.5, 13.8),
        "log_zsol": (-2, 0.6),
        "log_ssfr": (-14, -8),
    }
    assert set(limits) == set(PROPERTIES)
    for name, (low, high) in limits.items():
        true = columns[f"{name}_true"]
        assert ((true > low) & (true < high)).all()
    assert set(columns["morphology_true"]) == set(CLASSES)
    assert columns["mag_r"].max() < 19.5
    assert ((columns["ebv"] > 0) & (columns["ebv"] <= 0.3)).all()
    elliptical = columns["morphology_true"] == "elliptical"
    assert (np.isnan(columns["inclination"]) == elliptical).all()
    survives = 10 ** (columns["log_mstar_surviving_true"] - columns["log_mstar_true"])
    assert ((survives > 0.55) & (survives < 0.75)).all()
    assert ((columns["fibre_fraction"] > 0) & (columns["fibre_fraction"] < 1)).all()
    assert (survey.images.dec > -20).all()
    assert np.ptp(survey.images.ra) > 300


def test_signal_to_noise_stays_as_measured(survey):
    window = slice(3000, 4500)
    ratio = survey.spectra.flux[:, window] * np.sqrt(survey.spectra.ivar[:, window])
    found = np.percentile(np.median(ratio, axis=1), [5, 50, 95])
    np.testing.assert_allclose(found, [1.4, 2.8, 6.4], rtol=0.2)


def test_sizes_stay_as_measured(survey):
    found = np.percentile(survey.columns["r_eff"], [5, 50, 95])
    np.testing.assert_allclose(found, [0.82, 1.85, 4.6], rtol=0.2)


@pytest.mark.parametrize(("start", "n"), [(0, 1), (0, 128), (100, 60), (255, 3), (256, 44)])
def test_any_stretch_is_the_same_galaxies(survey, start, n):
    part = simulate(n, seed=4, size=64, start=start)
    assert fingerprint(part) == fingerprint(survey[start : start + n])


def test_threads_do_not_matter_and_are_given_back(survey):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        part = simulate(40, seed=4, size=64)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert fingerprint(part) == fingerprint(survey[:40])


def test_processes_do_not_matter_and_end_with_the_reader(survey):
    blocks = simulate_blocks(128 * 50, seed=4, size=64, processes=2)
    first, second = next(blocks), next(blocks)
    assert fingerprint(first) == fingerprint(survey[:128])
    assert fingerprint(second) == fingerprint(survey[128:256])
    blocks.close()
    assert not multiprocessing.active_children()


def test_seeds_differ_and_size_keeps_the_galaxy(survey):
    other = simulate(20, seed=5, size=64)
    assert not np.isin(other.columns["redshift_true"], survey.columns["redshift_true"]).any()
    large = simulate(20, seed=4, size=152)
    for name in (*(f"{p}_true" for p in PROPERTIES), "r_eff", *(f"psf_{band}" for band in BANDS)):
        np.testing.assert_array_equal(large.columns[name], survey.columns[name][:20])
    ratio = large.columns["fibre_fraction"] / survey.columns["fibre_fraction"][:20]
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.02  # companions may lie beyond a small stamp


def test_spectra_scatter_about_the_truth_as_ivar_says(survey):
    """Away from sky lines, and once level and slope are fitted out, chi² is 1."""
    galaxies = draw_population(128, stream(4, 0, Stage.POPULATION))
    fibre = survey.columns["fibre_fraction"][:128]
    true = fibre_spectra(
        galaxies, fibre, gas=stream(4, 0, Stage.GAS), motions=stream(4, 0, Stage.MOTIONS)
    ).numpy()
    wave = desi_grid()
    true *= 10 ** (-0.4 * survey.columns["ebv"][:128, None] * milkyway.extinction(wave))
    dark = (wave < 5500) & (wave > 3800)
    weight = np.sqrt(survey.spectra.ivar[:128, dark])
    for model, seen, w in zip(true[:, dark], survey.spectra.flux[:128, dark], weight, strict=True):
        design = (w * model * np.stack([np.ones(dark.sum()), wave[dark] / 5000])).T
        gains, left, *_ = np.linalg.lstsq(design, w * seen, rcond=None)
        assert left[0] / dark.sum() == pytest.approx(1, abs=0.15)
        error = np.sqrt(np.linalg.inv(design.T @ design).sum())
        assert abs(gains.sum() - 1) < 0.1 + 5 * error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 5, "size": 100}, "64, 96, 152"),
        ({"n": 0}, "at least 1"),
        ({"n": 5, "seed": -1}, "seed is -1"),
        ({"n": 5, "start": -3}, "start is -3"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_refuses_populations_that_nobody_observes():
    with pytest.raises(ValueError, match="'agn'; expected bgs, lrg, elg, qso, star, mixed"):
        check_arguments(5, 0, 64, 0, 1, "agn")


def test_refuses_no_processes():
    with pytest.raises(ValueError, match="processes is 0"):
        simulate_blocks(5, processes=0)


def test_stamps_hold_the_catalogue_magnitudes(survey):
    """Light within 4 arcsec of small galaxies, less the noise's and neighbours' share."""
    small = survey.columns["r_eff"] < 1
    axis = (np.arange(64) - 31.5) * PIXEL_SCALE
    inside = np.hypot(axis, axis[:, None]) < 4
    flux = survey.images.flux[small][..., inside].sum(-1)
    for b, band in enumerate(BANDS):
        dust = milkyway.BAND_EXTINCTION[b] * survey.columns["ebv"][small]
        ratio = flux[:, b] / magnitude_to_flux(survey.columns[f"mag_{band}"][small] + dust)
        assert np.median(ratio) == pytest.approx(0.98, abs=0.03)
