import numpy as np
import pytest
from astropy import units
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

from appulse import Spectra
from appulse.units import FLUX_UNIT

specutils = pytest.importorskip("specutils")
OURS = units.Unit(FLUX_UNIT)


def _spectrum(flux, axis, **more):
    return specutils.Spectrum(flux=flux, spectral_axis=axis, **more)


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(np.full(50, 0.5) * OURS),
        VarianceUncertainty(np.full(50, 0.25) * OURS**2),
        InverseVariance(np.full(50, 4.0) * OURS**-2),
    ],
)
def test_a_spectrum_keeps_flux_errors_and_mask(uncertainty):
    flux, mask = np.arange(1.0, 51), np.arange(50) == 7
    spectrum = _spectrum(
        flux * OURS, np.linspace(500, 600, 50) * units.nm, mask=mask, uncertainty=uncertainty
    )
    spectra = Spectra.from_specutils(spectrum, ids=["m31"], ra=10.68, dec=41.27)
    np.testing.assert_allclose(spectra.wavelength[0], np.linspace(5000, 6000, 50))
    np.testing.assert_allclose(spectra.flux[0], np.where(mask, 0, flux), rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar[0], np.where(mask, 0, 4.0), rtol=1e-6)
    np.testing.assert_array_equal(spectra.mask[0], mask)
    assert spectra.ids.tolist() == ["m31"]
    assert spectra.ra[0] == 10.68


def _janskys(axis):
    jansky = np.stack([np.full(40, 1.0), np.linspace(1, 2, 40)])
    header = {"AIRORVAC": "air"}
    return jansky, _spectrum(jansky * units.Jy, axis, meta={"header": header})


def _per_wavelength(jansky, wavelength):
    return jansky * 1e-23 * 2.99792458e18 / wavelength**2 / 1e-17


def test_several_in_janskys_over_wavelengths_in_air():
    wavelength = np.linspace(500, 700, 40)
    jansky, spectrum = _janskys(wavelength * units.nm)
    spectra = Spectra.from_specutils(spectrum)
    air_to_vac = specutils.utils.wcs_utils.air_to_vac
    vacuum = air_to_vac(wavelength * 10 * units.AA, scheme="iteration").value
    np.testing.assert_allclose(spectra.wavelength, np.stack([vacuum] * 2), rtol=1e-9)
    np.testing.assert_allclose(spectra.flux, _per_wavelength(jansky, vacuum), rtol=1e-6)
    assert (spectra.ivar > 0).all()  # noise is estimated


def test_frequencies_run_the_other_way_and_know_no_air():
    frequency = np.linspace(4e14, 6e14, 40)
    jansky, spectrum = _janskys(frequency * units.Hz)
    spectra = Spectra.from_specutils(spectrum)
    wavelength = (2.99792458e18 / frequency)[::-1]
    np.testing.assert_allclose(spectra.wavelength, np.stack([wavelength] * 2), rtol=1e-12)
    expected = _per_wavelength(jansky[:, ::-1], wavelength)
    np.testing.assert_allclose(spectra.flux, expected, rtol=1e-6)


def test_units_of_something_else():
    spectrum = _spectrum(np.ones(9) * units.K, np.linspace(500, 600, 9) * units.nm)
    with pytest.raises(ValueError, match="not convertible"):
        Spectra.from_specutils(spectrum)
