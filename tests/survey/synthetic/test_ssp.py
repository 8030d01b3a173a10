import numpy as np
import pytest
from astropy import units as u
from speclite.filters import load_filter

from appulse.survey.synthetic import continuum, history, ssp, stars

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
    assert (np.diff((blue / visual)[old]) < 0).all()  # before, supergiants come and go
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
    left = ssp.surviving_fraction(np.array([10.0]))[0]
    assert np.log10(left / light) == pytest.approx(np.log10(3.0), abs=0.15)


# Bruzual & Charlot (2003), MILES version of 2016, Kroupa, solar: SDSS g - r, D4000, and share of
# the mass formed in living stars.
BRUZUAL_CHARLOT = {
    0.055: (-0.037, 1.07, 0.766),
    0.102: (-0.019, 1.10, 0.730),
    0.203: (0.008, 1.14, 0.686),
    0.36: (0.117, 1.24, 0.657),
    0.571: (0.237, 1.36, 0.634),
    0.905: (0.392, 1.45, 0.608),
    2.5: (0.646, 1.71, 0.535),
    5.0: (0.732, 1.92, 0.496),
    11.0: (0.815, 2.16, 0.454),
}


def living_fraction(gyr):
    mass, number = ssp.kroupa()
    return np.sum((number * mass)[ssp._lifetime(mass, 0.0) > gyr])


def test_remnants_stay_behind():
    """White dwarfs weigh half a sun and more (Kalirai et al. 2008)."""
    mass, number = ssp.kroupa()
    left = ssp.surviving_fraction(np.array([0.0, 0.003, 1.0, 11.0]))
    assert left[:2] == pytest.approx(1)
    assert (np.diff(left) <= 0).all()
    dead = number[ssp._lifetime(mass, 0.0) < 11.0].sum()
    assert 0.5 * dead < left[3] - living_fraction(11.0) < 0.8 * dead


@pytest.mark.parametrize("gyr", BRUZUAL_CHARLOT)
def test_colours_breaks_and_masses_are_near_bruzual_and_charlot(gyr):
    colour, break_, left = BRUZUAL_CHARLOT[gyr]
    flux, unit = at_age(gyr).astype(float), u.erg / u.s / u.cm**2 / u.AA
    g, r = (
        load_filter(f"sdss2010-{band}").get_ab_magnitude(flux * unit, WAVE * u.AA) for band in "gr"
    )
    bluer = np.interp(np.log(gyr), np.log([1.4, 4.5]), [0, 0.05])  # as galaxies ask, Maraston 2009
    assert g - r == pytest.approx(colour - bluer, abs=0.05)
    assert d4000(flux) == pytest.approx(break_, abs=0.07)
    assert living_fraction(gyr) == pytest.approx(left, abs=0.05)


def test_lines_run_into_the_balmer_jump():
    """Light relative to 4150-4250 Å of .28 Gyr (Bruzual & Charlot 2003, version of 2016)."""
    published = {3650: 0.463, 3690: 0.465, 3730: 0.492, 3770: 0.616, 3815: 0.838, 3925: 1.011}
    flux = at_age(0.2818)
    for center, level in published.items():
        half = 25 if center == 3925 else 10 if center < 3800 else 15
        found = mean_flux(flux, center - half, center + half) / mean_flux(flux, 4150, 4250)
        assert found == pytest.approx(level, abs=0.035)


def test_corrections_are_smooth_and_met_at_their_knots():
    for row, metallicity in enumerate(continuum.METALLICITY):
        found = continuum.correction(continuum.AGE, metallicity, continuum.CENTER)
        np.testing.assert_allclose(np.log10(found), continuum.TUNED[row], atol=1e-9)
    fine = np.log10(continuum.correction(continuum.AGE[4:], 0.1, WAVE[WAVE > 3100]))
    assert np.abs(np.diff(fine, axis=1)).max() < 4 * ssp.LOG_STEP  # no line is as broad as this


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


def test_clouds_dim_the_youngest_stars_alone(monkeypatch):
    """By .8 mag in V and more in the blue (Charlot & Fall 2000)."""
    dusty = ssp.stellar_grid().luminosity
    monkeypatch.setattr(ssp, "BIRTH_CLOUD", 0.0)
    clear = ssp.stellar_grid.__wrapped__().luminosity
    young = history.SSP_AGE < ssp.BIRTH_AGE
    np.testing.assert_array_equal(dusty[:, ~young], clear[:, ~young])
    dimmed = -2.5 * np.log10(dusty[:, young] / clear[:, young])
    visual, blue = (np.argmin(np.abs(WAVE - center)) for center in (5500, 4000))
    np.testing.assert_allclose(dimmed[..., visual], 0.8, atol=0.01)
    assert (dimmed[..., blue] > 0.95).all()
