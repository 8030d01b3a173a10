import numpy as np
import pytest
from astropy import units as u

from appulse.survey.synthetic.brightness import SOLAR_LUMINOSITY, band_fluxes, filters
from appulse.survey.synthetic.cosmology import luminosity_distance
from appulse.survey.synthetic.dust import transmission
from appulse.survey.synthetic.ssp import WAVELENGTH, stellar_grid
from appulse.units import flux_to_magnitude


def speclite_magnitudes(galaxies, a_v):
    """AB magnitudes by speclite from the whole spectrum of each galaxy."""
    light = stellar_grid().composite(galaxies.log_zsol, galaxies.mass_fraction).numpy()
    z = galaxies.redshift[:, None]
    area = 4 * np.pi * luminosity_distance(z) ** 2
    flux = light * transmission(WAVELENGTH, a_v[:, None]) * 10 ** galaxies.log_mstar[:, None]
    flux *= SOLAR_LUMINOSITY / area / (1 + z)
    unit = u.erg / u.s / u.cm**2 / u.Angstrom
    return np.array(
        [
            [
                response.get_ab_magnitude(f * unit, WAVELENGTH * (1 + one) * u.Angstrom)
                for response in filters()
            ]
            for f, one in zip(flux, z[:, 0], strict=True)
        ]
    )


@pytest.mark.parametrize(("dust", "tolerance"), [(0.0, 0.004), (1.0, 0.02)])
def test_agrees_with_speclite(population, dust, tolerance):
    usual = (population.redshift < 0.5) & (population.a_v < 1.5)
    galaxies = population[np.flatnonzero(usual)[:60]]
    a_v = dust * galaxies.a_v
    flux = band_fluxes(
        galaxies.redshift, galaxies.log_zsol, galaxies.mass_fraction, galaxies.log_mstar, a_v
    )
    error = flux_to_magnitude(flux) - speclite_magnitudes(galaxies, a_v)
    assert np.abs(error).max() < tolerance
