import numpy as np
import pytest

from appulse.spectrum.indices import LINES, d4000, equivalent_width
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

Z = np.array([0.05, 0.2])


def spectra(rest_flux):
    """Spectra whose flux is a function of the wavelength at rest."""
    flux = np.stack([rest_flux(desi_grid() / (1 + z)) for z in Z])
    return Spectra.from_arrays(flux, ivar=1.0)


@pytest.mark.parametrize("name", LINES)
def test_a_gaussian_line_has_its_flux_over_the_continuum(name):
    line = LINES[name]
    centre, slope = sum(line.line) / 2, 3e-4

    def flux(rest):
        return 2 + slope * (rest - centre) + 40 * np.exp(-((rest - centre) ** 2) / (2 * 2.5**2))

    width = 40 * 2.5 * np.sqrt(2 * np.pi) / 2
    assert equivalent_width(spectra(flux), Z, line) == pytest.approx(width, rel=0.02)
    assert equivalent_width(spectra(lambda r: 2 + 0 * r), Z, line) == pytest.approx(0, abs=1e-5)


def test_the_break_is_a_ratio_of_f_nu():
    def flux(rest):  # f_ν is 1 below 3975 Å and 1.7 above
        return np.where(rest < 3975, 1.0, 1.7) * 1e7 / rest**2

    assert d4000(spectra(flux), Z) == pytest.approx(1.7, rel=1e-5)


def test_what_is_not_seen_is_unknown():
    flux = np.ones((2, 7781))
    seen = Spectra.from_arrays(flux, ivar=1.0, mask=desi_grid() > 6800 + 0 * flux)
    widths = equivalent_width(seen, Z, LINES["Hα + [NII]"])
    assert np.isnan(widths).all()
    assert np.isfinite(d4000(seen, Z)).all()
    assert np.isnan(d4000(seen, np.array([1.6, 1.6]))).all()
