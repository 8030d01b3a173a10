import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table

from appulse import read_spectra
from appulse.survey import bounded
from appulse.survey.readers import modality_of
from appulse.survey.rejects import Rejects
from appulse.units import FLUX_UNIT, desi_grid

GRID = desi_grid()
LIGHT = 2.99792458e18  # Å/s


def _line(centre, wavelength=GRID, sigma=4.0):
    return 10 + 40 * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2)


def _centre(spectra, row, guess):
    near = np.abs(GRID - guess) < 40
    excess = spectra.flux[row, near].astype(float) - 10
    return (excess * GRID[near]).sum() / excess.sum()


# --- Parquet


def _write_parquet(path, columns, units=None):
    arrays = {name: pa.array(values) for name, values in columns.items()}
    fields = [
        pa.field(
            name, array.type, metadata={"unit": units[name]} if name in (units or {}) else None
        )
        for name, array in arrays.items()
    ]
    pq.write_table(pa.Table.from_arrays([*arrays.values()], schema=pa.schema(fields)), path)


def test_parquet_holds_a_spectrum_a_row(tmp_path):
    blue, red = np.arange(3500.0, 10000, 0.5), np.arange(3600.0, 9900, 1.3)
    mask = np.zeros(len(red), int)
    mask[1000:1100] = 4
    _write_parquet(
        tmp_path / "a.parquet",
        {
            "id": ["m31", "m33"],
            "ra": [10.68, None],
            "dec": [41.27, None],
            "wavelength": [blue.tolist(), red.tolist()],
            "flux": [_line(5000, blue).tolist(), _line(6000, red).tolist()],
            "ivar": [np.full(len(blue), 4.0).tolist(), np.full(len(red), 9.0).tolist()],
            "mask": [None, mask.tolist()],
        },
    )
    spectra = read_spectra(tmp_path / "a.parquet")
    assert spectra.ids.tolist() == ["m31", "m33"]
    assert spectra.ra[0] == 10.68
    assert np.isnan(spectra.ra[1])
    assert _centre(spectra, 0, 5000) == pytest.approx(5000, abs=0.01)
    assert _centre(spectra, 1, 6000) == pytest.approx(6000, abs=0.01)
    masked = GRID[spectra.mask[1]]
    assert (masked.min(), masked.max()) == pytest.approx((red[1000], red[1099]), abs=1.5)
    assert not spectra.mask[0].any()
    # a pixel of 0.8 Å takes 0.5 and 0.3 Å of two, or 0.5 Å and twice 0.15 Å: (Σw)²/Σw²
    assert 4 * 1.88 <= np.median(spectra.ivar[0]) <= 4 * 2.17
    assert modality_of(tmp_path / "a.parquet") == "spectrum"


def test_parquet_fields_may_have_units_and_wavelengths_in_air(tmp_path):
    # H-alpha in air, in nm; W/m²/µm are 0.1 erg/s/cm²/Å
    wavelength = np.arange(350.0, 1000, 0.05)
    flux = _line(6562.80, 10 * wavelength) * 1e-17 * 10
    _write_parquet(
        tmp_path / "a.parquet",
        {"targetid": [7], "wavelength": [wavelength], "flux": [flux], "ivar": [flux * 0 + 1e34]},
        {"wavelength": "nm, air", "flux": "W / (m2 um)"},
    )
    spectra = read_spectra(tmp_path / "a.parquet")
    assert spectra.ids.tolist() == ["7"]
    assert _centre(spectra, 0, 6564.61) == pytest.approx(6564.61, abs=0.01)
    assert np.median(spectra.flux) == pytest.approx(10, rel=1e-3)
    assert 100 * 1.88 <= np.median(spectra.ivar) <= 100 * 2.17


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("", 4.0),
        (f"({FLUX_UNIT})^-2", 4.0),
        ("s2 cm4 Angstrom2 / erg2", 4e34),
        ("m4 um2 / W2", 4e32),  # W/m²/µm are 0.1 erg/s/cm²/Å
    ],
)
def test_ivar_of_parquet_has_the_unit_of_its_field(tmp_path, unit, value):
    columns = {"flux": [np.ones(7781)], "ivar": [np.full(7781, value)]}
    path = tmp_path / "a.parquet"
    _write_parquet(path, columns, {"flux": FLUX_UNIT, "ivar": unit})
    np.testing.assert_allclose(read_spectra(path).ivar, 4, rtol=1e-6)


@pytest.mark.parametrize("unit", ["m", "no unit"])
def test_an_ivar_of_something_else_is_set_aside(tmp_path, unit):
    columns = {"flux": [np.ones(7781)], "ivar": [np.ones(7781)]}
    _write_parquet(tmp_path / "a.parquet", columns, {"ivar": unit})
    with pytest.raises(ValueError, match=f"row 0: .*{unit}"):
        read_spectra(tmp_path / "a.parquet")


def test_spectra_are_named_as_catalogues_name_their_rows(tmp_path):
    """By the first of one list of names; 3.96e16 is a whole number."""
    columns = {
        "id": ["a", "b"],
        "TARGETID": [39627866878514704.0, None],
        "target_ra": [10.0, None],
        "ra": [11.0, 12.0],
        "flux": [np.ones(7781)] * 2,
    }
    _write_parquet(tmp_path / "a.parquet", columns)
    spectra = read_spectra(tmp_path / "a.parquet")
    assert spectra.ids.tolist() == ["39627866878514704", "b"]
    assert spectra.ra.tolist() == [10, 12]


def test_bad_rows_of_parquet_are_set_aside(tmp_path):
    good, short = np.ones(7781), np.ones(20)
    hole = np.where(np.arange(7781) < 6000, np.nan, 1)
    _write_parquet(
        tmp_path / "a.parquet",
        {"flux": [good, short, hole, None, good], "id": ["a", "b", "c", "d", None]},
    )
    rejects = Rejects()
    spectra = read_spectra(tmp_path / "a.parquet", rejects=rejects)
    assert spectra.ids.tolist() == ["a", "4"]
    assert [reject.row for reject in rejects] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"a\.parquet, row 1"):
        read_spectra(tmp_path / "a.parquet")


def test_the_stores_own_export_is_read(tmp_path, store):
    store.to_parquet(tmp_path / "s.parquet")
    spectra, expected = read_spectra(tmp_path / "s.parquet"), store.read().spectra
    np.testing.assert_array_equal(spectra.ids, expected.ids)
    np.testing.assert_array_equal(spectra.flux, expected.flux)
    np.testing.assert_array_equal(spectra.mask, expected.mask)


def test_parquet_of_something_else(tmp_path):
    _write_parquet(tmp_path / "a.parquet", {"magnitude": [1.0]})
    with pytest.raises(ValueError, match="no column flux of lists; found magnitude"):
        read_spectra(tmp_path / "a.parquet")


def test_parquet_does_not_unpack_without_bound(tmp_path, monkeypatch):
    pq.write_table(
        pa.table({"flux": [np.zeros(100_000)] * 4}), tmp_path / "a.parquet", compression="zstd"
    )
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    monkeypatch.setattr(bounded, "LIMIT", 3_000_000)
    with pytest.raises(ValueError, match="row group 0 unpacks to 3 MiB"):
        read_spectra(tmp_path / "a.parquet")


# --- one spectrum in a table with units


def _table(**meta):
    table = Table(meta=meta)
    table["wavelength"] = GRID * units.AA
    table["flux"] = _line(6000) * units.Unit(FLUX_UNIT)
    table["ivar"] = np.full(len(GRID), 4.0)
    return table


def _ecsv(path, table):
    table.write(path, format="ascii.ecsv")
    return path


def test_ecsv_in_our_units(tmp_path):
    spectra = read_spectra(_ecsv(tmp_path / "a.ecsv", _table(id="m31", ra=10.68, dec=41.27)))
    assert spectra.ids.tolist() == ["m31"]
    assert (spectra.ra[0], spectra.dec[0]) == (10.68, 41.27)
    np.testing.assert_allclose(spectra.flux[0], _line(6000), rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar[0], 4, rtol=1e-6)
    assert modality_of(tmp_path / "a.ecsv") == "spectrum"
    spectra = read_spectra(_ecsv(tmp_path / "b.ecsv", _table(ra="00:42:44", dec=41.27)))
    assert np.isnan(spectra.ra[0])
    assert spectra.dec[0] == 41.27


def test_ecsv_in_janskys_over_frequency(tmp_path):
    """F_ν = F_λ λ²/c, and frequencies run the other way."""
    table = Table()
    table["wavelength"] = LIGHT / GRID * units.Hz
    jansky = _line(6000) * 1e-17 * GRID**2 / LIGHT / 1e-23
    table["flux"] = jansky * units.Jy
    table["ivar"] = (10 / jansky) ** 2 * units.Jy**-2
    spectra = read_spectra(_ecsv(tmp_path / "galaxy.ecsv", table[::-1]))
    assert spectra.ids.tolist() == ["galaxy"]
    np.testing.assert_allclose(spectra.flux[0], _line(6000), rtol=1e-5)
    np.testing.assert_allclose(spectra.ivar[0], (10 / _line(6000)) ** 2, rtol=1e-5)


def test_missing_values_are_masked(tmp_path):
    table = Table(_table(), masked=True)
    table["flux"].mask[10:20] = True
    table["mask"] = np.arange(len(GRID)) >= 7000
    spectra = read_spectra(_ecsv(tmp_path / "a.ecsv", table))
    expected = [*range(10, 20), *range(7000, 7781)]
    assert np.flatnonzero(spectra.mask[0]).tolist() == expected


def test_air_in_ecsv(tmp_path):
    table = _table(AIRORVAC="air")
    table["flux"] = _line(6562.80) * units.Unit(FLUX_UNIT)
    spectra = read_spectra(_ecsv(tmp_path / "a.ecsv", table))
    assert _centre(spectra, 0, 6564.61) == pytest.approx(6564.61, abs=0.01)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.remove_column("flux"), "no column flux; found"),
        (lambda t: setattr(t["flux"], "unit", None), "column flux has no unit; expected one such"),
        (lambda t: setattr(t["flux"], "unit", "mag"), "not convertible"),
        (lambda t: setattr(t["wavelength"], "unit", "s"), "not convertible"),
    ],
)
def test_columns_and_units_must_be_there(tmp_path, spoil, message):
    table = _table()
    spoil(table)
    path = _ecsv(tmp_path / "a.ecsv", table)
    with pytest.raises(ValueError, match=message):
        read_spectra(path)


def _fits(path, **header):
    table = _table()
    table["flux"] = _line(6562.80) * units.Unit(FLUX_UNIT)
    hdu = fits.BinTableHDU(table)
    primary = fits.PrimaryHDU(header=fits.Header({"ID": "m31", "RA": 10.68, **header}))
    fits.HDUList([primary, hdu]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("header", "centre"),
    [({}, 6562.80), ({"VACUUM": False}, 6564.61), ({"AIRORVAC": "air"}, 6564.61)],
)
def test_fits_tables_say_by_their_columns_what_they_are(tmp_path, header, centre):
    path = _fits(tmp_path / "a.fits", **header)
    spectra = read_spectra(path)
    assert spectra.ids.tolist() == ["m31"]
    assert spectra.ra[0] == 10.68
    assert _centre(spectra, 0, centre) == pytest.approx(centre, abs=0.01)
    assert modality_of(path) == "spectrum"


def test_several_tables_in_a_file_are_not_guessed_at(tmp_path):
    path = _fits(tmp_path / "a.fits")
    with fits.open(path, mode="append") as hdus:
        hdus.append(hdus[1].copy())
    with pytest.raises(ValueError, match="2 tables hold wavelength and flux; expected one"):
        read_spectra(path)
