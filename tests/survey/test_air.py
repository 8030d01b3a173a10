import numpy as np
import pytest
from astropy.io import fits

from appulse.survey.air import is_air, to_vacuum

# Air and vacuum wavelengths of lines in Å, as SDSS lists them (table of spectral lines, DR7)
LINES = [
    (3727.09, 3728.14),
    (3968.47, 3969.59),
    (4861.33, 4862.68),
    (5006.84, 5008.24),
    (6562.80, 6564.61),
    (6716.44, 6718.29),
    (8542.09, 8544.44),
]


@pytest.mark.parametrize(("air", "vacuum"), LINES)
def test_published_lines(air, vacuum):
    assert to_vacuum(np.array([air]))[0] == pytest.approx(vacuum, abs=0.012)


@pytest.mark.parametrize("method", ["Morton2000", "Ciddor1996", "PeckReeder1972"])
def test_specutils_agrees(method):
    wcs_utils = pytest.importorskip("specutils.utils.wcs_utils")
    from astropy import units

    wavelength = np.linspace(3000, 11000, 500)
    theirs = wcs_utils.air_to_vac(wavelength * units.AA, scheme="iteration", method=method)
    np.testing.assert_allclose(to_vacuum(wavelength), theirs.value, rtol=2e-8)


@pytest.mark.parametrize(
    ("header", "air"),
    [
        ({}, False),
        ({"AIRORVAC": "air"}, True),
        ({"AIRORVAC": "vac"}, False),
        ({"airorvac": " Air "}, True),
        ({"VACUUM": "air"}, True),
        ({"VACUUM": False}, True),
        ({"VACUUM": True}, False),
        ({"VACUUM": "T"}, False),
        ({"CTYPE1": "AWAV"}, True),
        ({"CTYPE1": "AWAV-LOG"}, True),
        ({"CTYPE1": "WAVE"}, False),
        ({"CTYPE1": "RA---TAN", "CTYPE3": "AWAV"}, True),
    ],
)
def test_headers(header, air):
    assert is_air(header) is air
    if all(len(key) <= 8 for key in header):
        assert is_air(fits.Header(header)) is air
