import numpy as np
import pytest

from appulse.survey.synthetic import history, ssp, stars

WAVE = ssp.WAVELENGTH


def mean_flux(flux, low, high):
    return flux[(low < WAVE) & (high > WAVE)].mean()


def d4000(flux):
    """Break of Balogh et al. 1999, in flux per frequency."""
    return mean_flux(flux, 4000, 4100) / mean_flux(flux, 3850, 3950) * (4050 / 3900) ** 2


def magnesium_b(flux):
    """Lick index (Worthey et al. 1994) in Å; bands moved to vacuum."""
    blue, band, red = (np.array(x) + 1.44 for x in ((5118, 5143), (5160, 5193), (5191, 5206)))
    sides = [mean_flux(flux, *blue), mean_flux(flux, *red)]
    inside = (band[0] < WAVE) & (band[1] > WAVE)
    level = np.interp(WAVE[inside], [blue.mean(), red.mean()], sides)
    return np.trapezoid(1 - flux[inside] / level, WAVE[inside])


def at_age(gyr, metallicity=0.0):
    grid = ssp.stellar_grid().luminosity[list(ssp.METALLICITY).index(metallicity)]
    cell, part = ssp.cell_of(np.log10([gyr]), np.log10(history.SSP_AGE))
    return (1 - part) * grid[cell[0]] + part * grid[cell[0] + 1]


@pytest.mark.parametrize(
    ("gyr", "emiles_d4000", "emiles_magnesium"),
    [(0.63, 1.37, 1.2), (2.5, 1.67, 2.7), (12.6, 2.17, 4.3)],  # Vazdekis et al. 2016, [Z/H] = 0
)
def test_indices_are_near_emiles(gyr, emiles_d4000, emiles_magnesium):
    flux = at_age(gyr)
    assert d4000(flux) == pytest.approx(emiles_d4000, abs=0.2)
    assert magnesium_b(flux) == pytest.approx(emiles_magnesium, abs=0.65)


def test_populations_fade_redden_and_break_with_age():
    grid = ssp.stellar_grid().luminosity[list(ssp.METALLICITY).index(0.0)]
    visual = np.array([mean_flux(flux, 5000, 6000) for flux in grid])
    blue = np.array([mean_flux(flux, 4000, 4500) for flux in grid])
    old = history.SSP_AGE > 0.1
    assert (np.diff(visual) < 0).all()
    assert (np.diff(blue / visual) < 0).all()
    assert (np.diff([d4000(flux) for flux in grid[old]]) > 0).all()


def test_metals_redden_and_deepen_lines():
    old = [at_age(10.0, metallicity) for metallicity in ssp.METALLICITY]
    assert (np.diff([magnesium_b(flux) for flux in old]) > 0).all()
    colours = [mean_flux(flux, 4000, 4500) / mean_flux(flux, 8000, 9000) for flux in old]
    assert (np.diff(colours) < 0).all()


def test_mass_to_light_ratio_of_old_stars():
    solar_visual = 4.83 - -2.5 * np.log10(3.828e33 / (4 * np.pi * (10 * 3.0857e18) ** 2))
    flux = mean_flux(at_age(10.0), 5100, 6000)  # L☉/Å
    vega = 3.631e-9  # erg/s/cm²/Å in V
    light = flux / 10 ** (-0.4 * solar_visual) / vega
    assert np.log10(1 / light) == pytest.approx(np.log10(3.0), abs=0.3)


def test_initial_masses_add_up_to_one_sun():
    mass, number = ssp.kroupa()
    assert np.sum(mass * number) == pytest.approx(1)
    heavy = np.sum((mass * number)[mass > 8])
    assert 0.18 < heavy < 0.26  # Kroupa: a fifth of the mass explodes


def test_planck_holds_one_luminosity_and_peaks_where_wien_says():
    wave = np.geomspace(300, 3e6, 20000)
    flux = stars.planck(np.array([3000.0, 10000.0]), wave)
    np.testing.assert_allclose(np.trapezoid(flux, wave, axis=1), 1, rtol=1e-3)
    np.testing.assert_allclose(wave[flux.argmax(1)], 2.8978e7 / np.array([3000, 10000]), rtol=1e-3)


def test_composite_is_the_weighted_sum():
    grid = ssp.stellar_grid()
    fraction = np.random.default_rng(0).dirichlet(np.ones(len(history.SSP_AGE)), 2)
    light = grid.composite(np.array([0.1, -5.0]), fraction).numpy()
    low, high = (np.tensordot(fraction[0], grid.luminosity[k], 1) for k in (4, 5))
    part = 0.1 / 0.22
    np.testing.assert_allclose(light[0], (1 - part) * low + part * high, rtol=1e-4)
    np.testing.assert_allclose(light[1], fraction[1] @ grid.luminosity[0], rtol=1e-4)
