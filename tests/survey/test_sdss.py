import numpy as np
import pytest
from astropy.io import fits

from appulse.survey.readers import read_spectra
from appulse.survey.rejects import Rejects
from appulse.units import desi_grid


def _write(
    path, *, n=3840, bestobjid="1237650795683184714", spoil=None, drop=(), second=True, header=None
):
    """As idlspec2d's spec-PLATE-MJD-FIBER.fits."""
    loglam = np.float32(3.58 + 1e-4 * np.arange(n))
    wavelength = 10.0 ** (3.58 + 1e-4 * np.arange(n))
    line = 40 * np.exp(-0.5 * ((wavelength - 6725.0) / 4) ** 2)
    arrays = {
        "flux": np.float32(10 + line),
        "loglam": loglam,
        "ivar": np.full(n, 4, np.float32),
        "and_mask": np.zeros(n, np.int32),
        "or_mask": np.full(n, 1 << 23, np.int32),
    }
    if spoil:
        spoil(arrays)
    formats = {"f": "E", "i": "J"}
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column(k, formats[a.dtype.kind], array=a)
            for k, a in arrays.items()
            if k not in drop
        ],
        name="COADD",
    )
    specobj = fits.BinTableHDU.from_columns(
        [
            fits.Column("BESTOBJID", "19A", array=[bestobjid]),
            fits.Column("PLUG_RA", "D", array=[146.5]),
            fits.Column("PLUG_DEC", "D", array=[-0.25]),
            fits.Column("CLASS", "6A", array=["GALAXY"]),
            fits.Column("Z", "E", array=[0.0245]),
        ],
        name="SPECOBJ",
    )
    primary = fits.PrimaryHDU(header=fits.Header({"PLUG_RA": 146.5, "PLUG_DEC": -0.25}))
    primary.header.update(header or {})
    fits.HDUList([primary, coadd] + [specobj] * second).writeto(path, overwrite=True)


def test_a_spectrum_lands_on_the_desi_grid(tmp_path):
    path = tmp_path / "spec-0266-51630-0168.fits"
    _write(path)
    spectra = read_spectra(path)
    grid, flux, mask = desi_grid(), spectra.flux[0].astype(float), spectra.mask[0]
    assert spectra.ids.tolist() == ["1237650795683184714"]
    assert (spectra.ra[0], spectra.dec[0]) == (146.5, -0.25)
    np.testing.assert_allclose(flux[~mask & (np.abs(grid - 6725) > 40)], 10, rtol=1e-6)
    near = np.abs(grid - 6725) < 40
    excess = (flux - 10)[near]
    assert excess.sum() * 0.8 == pytest.approx(40 * 4 * np.sqrt(2 * np.pi), rel=1e-3)
    assert (excess * grid[near]).sum() / excess.sum() == pytest.approx(6725, abs=0.02)
    assert grid[~mask].min() == pytest.approx(3801.9, abs=1)
    assert grid[~mask].max() == pytest.approx(10 ** (3.58 + 0.3839), abs=1.2)


@pytest.mark.parametrize(("header", "shift"), [({"VACUUM": True}, 0.0), ({"VACUUM": False}, 1.856)])
def test_wavelengths_in_air_become_vacuum(tmp_path, header, shift):
    """n - 1 of air at 6725 Å is 2.76e-4 (CRC Handbook)."""
    _write(tmp_path / "spec-1.fits", header=header)
    spectra, grid = read_spectra(tmp_path / "spec-1.fits"), desi_grid()
    near = np.abs(grid - 6725) < 40
    excess = spectra.flux[0, near].astype(float) - 10
    centre = (excess * grid[near]).sum() / excess.sum()
    assert centre == pytest.approx(6725 + shift, abs=0.02)


def test_only_the_and_mask_counts_and_of_it_the_bits_that_spoil(tmp_path):
    def spoil(arrays):
        arrays["and_mask"][1000:1050] = 1 << 23  # BRIGHTSKY
        arrays["and_mask"][2000:2050] = 1 << 16  # NEARBADPIXEL
        arrays["ivar"][3000:3050] = 0
        arrays["flux"][500] = np.nan

    _write(tmp_path / "spec-1.fits", spoil=spoil)
    spectra = read_spectra(tmp_path / "spec-1.fits")
    at = {i: round((10 ** (3.58 + 1e-4 * i) - 3600) / 0.8) for i in (500, 1025, 2025, 3025)}
    assert {i: bool(spectra.mask[0, pixel]) for i, pixel in at.items()} == {
        500: True,
        1025: True,
        2025: False,
        3025: True,
    }


@pytest.mark.parametrize("identity", ["", "0"])
def test_without_a_photometric_object_the_fibre_names_it(tmp_path, identity):
    _write(tmp_path / "spec-4055-55359-0596.fits", bestobjid=identity)
    assert read_spectra(tmp_path / "spec-4055-55359-0596.fits").ids.tolist() == ["4055-55359-0596"]


def test_without_a_catalogue_the_primary_header_has_the_position(tmp_path):
    _write(tmp_path / "spec-1-2-3.fits", second=False)
    spectra = read_spectra(tmp_path / "spec-1-2-3.fits")
    assert (spectra.ids[0], spectra.ra[0], spectra.dec[0]) == ("1-2-3", 146.5, -0.25)


def test_bad_files_do_not_stop_the_rest(tmp_path):
    _write(tmp_path / "a.fits")
    _write(tmp_path / "b.fits", drop=("ivar",))
    _write(tmp_path / "c.fits", n=1500)
    _write(tmp_path / "d.fits", spoil=lambda arrays: arrays["ivar"].fill(0))
    _write(tmp_path / "e.fits", n=0)
    (tmp_path / "f.fits").write_bytes((tmp_path / "a.fits").read_bytes()[:9000])
    fits.PrimaryHDU(np.ones((3, 3))).writeto(tmp_path / "g.fits")
    _write(tmp_path / "h.fits")
    rejects = Rejects()
    spectra = read_spectra(str(tmp_path / "*.fits"), rejects=rejects)
    assert len(spectra) == 2
    reasons = {r.file[-6]: r.reason for r in rejects}
    assert sorted(reasons) == list("bcdefg")
    assert "no column IVAR" in reasons["b"]
    assert "more than half" in reasons["c"]
    assert "more than half" in reasons["d"]
    assert "not an SDSS spec file" in reasons["g"]


def _padded(**changes):
    n = np.array([3840, 4600, 4000])
    arrays = {
        "flux": np.full((3, 4600), np.nan, np.float32),
        "ivar": np.full((3, 4600), np.nan, np.float32),
        "and_mask": np.zeros((3, 4600), np.int32),
        "loglam0": np.array([3.58, 3.5534, 3.58]),
        "npix": n,
        "ra": np.array([1.0, 2.0, np.nan]),
        "dec": np.zeros(3),
        "plate": np.array([266.0, 10000.0, np.nan]),
        "mjd": np.array([51630.0, 57346.0, np.nan]),
        "fiber": np.array([7.0, 3.0, np.nan]),
        "bestobjid": np.array(["123", "", ""]),
    }
    for row in range(3):
        arrays["flux"][row, : n[row]] = row + 1
        arrays["ivar"][row, : n[row]] = 1
    return arrays | changes


def test_padded_tables(tmp_path):
    np.savez_compressed(tmp_path / "t.npz", **_padded())
    spectra = read_spectra(tmp_path / "t.npz")
    assert spectra.ids.tolist() == ["123", "10000-57346-0003", "2"]
    for row in range(3):
        np.testing.assert_allclose(spectra.flux[row][~spectra.mask[row]], row + 1, rtol=1e-6)
    grid = desi_grid()
    assert grid[~spectra.mask[1]].min() == 3600
    assert spectra.mask[1].sum() == 0
    assert spectra.mask[0, 0]


def test_flagged_pixels_of_a_table_are_masked(tmp_path):
    arrays = _padded()
    arrays["and_mask"][0, 1000:1050] = 1 << 23  # BRIGHTSKY
    np.savez(tmp_path / "t.npz", **arrays)
    mask = read_spectra(tmp_path / "t.npz").mask[0]
    assert mask[round((10 ** (3.58 + 0.1025) - 3600) / 0.8)]
    assert mask.sum() == pytest.approx(253 + 50 * 1.107 / 0.8 + 777, abs=8)


def test_tables_that_hold_something_else(tmp_path):
    np.savez(tmp_path / "a.npz", flux=np.ones((2, 5)))
    with pytest.raises(ValueError, match="no array and_mask, ivar, loglam0, npix"):
        read_spectra(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **_padded(npix=np.array([3840, 2, 9999])))
    rejects = Rejects()
    assert len(read_spectra(tmp_path / "b.npz", rejects=rejects)) == 1
    assert [r.row for r in rejects] == [1, 2]


def test_pickles_stay_closed(tmp_path):
    np.savez(tmp_path / "a.npz", **_padded(bestobjid=np.array([{}, {}, {}], dtype=object)))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_spectra(tmp_path / "a.npz")


def test_the_real_pairs(shared):
    folder = shared / "data" / "real" / "pairs_legacysurvey_sdss"
    spectra = read_spectra(folder / "*.fits")
    assert len(spectra) == 14
    assert {path.stem for path in folder.glob("*.jpeg")} == set(spectra.ids)
    fraction = spectra.mask.mean(axis=1)
    assert ((fraction > 0.08) & (fraction < 0.2)).all()


def test_a_real_spectrum_keeps_its_flux_and_errors(shared):
    path = sorted((shared / "data" / "real" / "pairs_legacysurvey_sdss").glob("*.fits"))[0]
    spectra = read_spectra(path)
    with fits.open(path) as hdus:
        coadd = hdus[1].data
        wavelength = 10 ** coadd["loglam"].astype(float)
        window = (wavelength > 6000) & (wavelength < 6200)
        flux, ivar = coadd["flux"][window].astype(float), coadd["ivar"][window].astype(float)
    new = (desi_grid() > 6000) & (desi_grid() < 6200)
    assert spectra.flux[0, new].mean() == pytest.approx(flux.mean(), rel=3e-3)
    # SDSS pixels are 1.4 Å here, DESI's 0.8: errors per pixel stay or grow with the overlap
    ratio = np.median(spectra.ivar[0, new]) / np.median(ivar)
    assert 0.95 < ratio < 2.1


def test_the_real_table(shared):
    rejects = Rejects()
    spectra = read_spectra(shared / "data" / "real" / "spectra_sdss.npz", rejects=rejects)
    assert len(spectra) + len(rejects) == 133
    assert len(rejects) <= 3
    assert np.isfinite(spectra.flux).all()


def test_without_a_photometric_id_the_file_names_the_spectrum(tmp_path):
    """Up to its suffix, not to the first dot."""
    path = tmp_path / "spec-0266-51630.5-0168.fits"
    _write(path, bestobjid="0")
    assert read_spectra(path).ids.tolist() == ["0266-51630.5-0168"]
