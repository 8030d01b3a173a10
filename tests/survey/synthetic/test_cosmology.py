import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import Planck18

from appulse.survey.synthetic import cosmology

Z = np.random.default_rng(0).uniform(0.002, 3.9, 50)


@pytest.mark.parametrize(
    ("ours", "astropy"),
    [
        (cosmology.luminosity_distance, Planck18.luminosity_distance(Z).to_value(u.cm)),
        (cosmology.age_of_universe, Planck18.age(Z).to_value(u.Gyr)),
        (cosmology.volume_density, Planck18.differential_comoving_volume(Z).value),
        (
            cosmology.kpc_per_arcsec,
            (Planck18.angular_diameter_distance(Z) * u.arcsec.to(u.rad)).to_value(u.kpc),
        ),
    ],
)
def test_agrees_with_astropy(ours, astropy):
    np.testing.assert_allclose(ours(Z), astropy, rtol=1e-4)
