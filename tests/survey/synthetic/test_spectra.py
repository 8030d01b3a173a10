import dataclasses

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.cosmology import Planck18

from appulse.survey.synthetic import spectra, ssp
from appulse.survey.synthetic.brightness import filters
from appulse.survey.synthetic.gas import LINE_WAVELENGTH, LINES
from appulse.units import desi_grid, flux_to_magnitude

C = 299_792.458


def area(z):
    return 4 * np.pi * Planck18.luminosity_distance(z).to_value(u.cm) ** 2


def test_broadening_adds_the_variance_of_the_velocities():
    light = torch.zeros(2, len(ssp.WAVELENGTH))
    light[:, 5000] = 1
    broad = spectra.broaden(light, np.array([120.0, 300.0])).numpy()
    velocity = C * (np.log(ssp.WAVELENGTH) - np.log(ssp.WAVELENGTH[5000]))
    near = np.abs(velocity) < 3000
    np.testing.assert_allclose(broad[:, near].sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose((broad * velocity)[:, near].sum(1), 0, atol=0.5)
    found = np.sqrt((broad * velocity**2)[:, near].sum(1))
    np.testing.assert_allclose(found, [120, 300], rtol=0.01)


def test_redshifting_keeps_energy_and_moves_features():
    """∫ F dλ = M ∫ L dλ / (4π D²) between the same rest wavelengths."""
    wave, z = ssp.WAVELENGTH, 0.2
    rest = 1 + 0.5 * np.exp(-0.5 * ((wave - 5000) / 100) ** 2)
    light = torch.from_numpy(rest.astype(np.float32))[None]
    flux = spectra.observe(light, np.array([z]), np.array([10.0])).numpy()[0]
    seen = desi_grid()
    assert seen[flux.argmax()] == pytest.approx(5000 * 1.2, abs=8)
    low, high = seen[0] / 1.2, seen[-1] / 1.2
    inside = (wave > low) & (wave < high)
    emitted = np.trapezoid(rest[inside], wave[inside]) * 1e10 * 3.828e33
    assert np.trapezoid(flux, seen) == pytest.approx(1e17 * emitted / area(z), rel=1e-3)


@pytest.mark.parametrize("z", [0.02, 0.1, 0.3])
def test_lines_lie_at_their_redshift_with_flux_and_width(z):
    luminosity = np.zeros((1, len(LINES)))
    halpha = list(LINES).index("H alpha")
    luminosity[0, halpha] = 1e41
    flux = torch.zeros(1, 7781)
    spectra.add_lines(flux, luminosity, np.array([z]), np.array([150.0]))
    line, wave = flux.numpy()[0].astype(float), desi_grid()
    center = (line * wave).sum() / line.sum()
    assert center == pytest.approx(LINE_WAVELENGTH[halpha] * (1 + z), abs=0.01)
    assert line.sum() * 0.8 == pytest.approx(1e17 * 1e41 / area(z), rel=1e-3)
    width = np.sqrt((line * (wave - center) ** 2).sum() / line.sum())
    assert width == pytest.approx(np.hypot(center * 150 / C, 0.8), rel=0.01)


def test_lines_beyond_the_grid_leave_no_trace_and_edges_are_not_special():
    luminosity = np.full((3, len(LINES)), 1e41)
    flux = torch.zeros(3, 7781)
    z = np.array([0.6, 9800 / 6564.6 - 1, 0.0823])  # S III and Hα gone; Hα near the red end
    spectra.add_lines(flux, luminosity, z, np.full(3, 100.0))
    assert torch.isfinite(flux).all()
    assert flux[0, desi_grid() > 9500].abs().max() == 0
    assert flux[1, np.abs(desi_grid() - 9800) < 1].max() > 0
    assert flux[2, np.abs(desi_grid() - 9071.1 * 1.0823) < 1].max() > 0


def test_starlight_is_dimmed_by_dust(population):
    dusty = population[:4]
    clear = dataclasses.replace(dusty, a_v=np.zeros(4))
    still = np.full(4, 1.0)
    ratio = (spectra.starlight(dusty, still) / spectra.starlight(clear, still)).numpy()
    visual = np.argmin(np.abs(ssp.WAVELENGTH[ssp.OPTICAL] - 5500))
    np.testing.assert_allclose(-2.5 * np.log10(ratio[:, visual]), dusty.a_v, atol=0.01)


def test_massive_galaxies_move_faster():
    log_mass = np.repeat([9.0, 11.0], 500)
    motions = spectra.draw_motions(log_mass, np.random.default_rng(0))
    low, high = np.median(motions.stars.reshape(2, -1), axis=1)
    assert np.log10(high / low) == pytest.approx(0.56, abs=0.03)
    assert (motions.gas >= 40).all()


def test_photometry_of_the_spectra_is_that_of_the_images(population):
    """By speclite from the observed-frame spectra; r lies within DESI's range."""
    galaxies = population[:50]
    light = spectra.starlight(galaxies, np.full(50, 150.0))
    flux = spectra.observe(light, galaxies.redshift, galaxies.log_mstar).numpy()
    response = filters()[1]
    padded, wave = response.pad_spectrum(flux.astype(float), desi_grid(), method="edge")
    maggies = response.get_ab_maggies(padded * 1e-17 * u.erg / u.s / u.cm**2 / u.AA, wave * u.AA)
    error = flux_to_magnitude(1e9 * maggies) - flux_to_magnitude(galaxies.flux[:, 1])
    assert np.abs(error).max() < 0.02
