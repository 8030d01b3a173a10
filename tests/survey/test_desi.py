import numpy as np
import pytest
from astropy.io import fits

from appulse.survey.readers import iter_spectra, read_spectra
from appulse.survey.rejects import Rejects
from appulse.units import desi_grid

ARMS = {"B": (3600, 5800), "R": (5760, 7620), "Z": (7520, 9824)}


def _truth(n, seed=0):
    """What each arm measured: flux, ivar and mask per arm, on its own wavelengths."""
    rng = np.random.default_rng(seed)
    arms = {}
    for arm, (first, last) in ARMS.items():
        wavelength = np.arange(round((last - first) / 0.8) + 1) * 0.8 + first
        flux = rng.normal(5, 1, (n, len(wavelength))).astype(np.float32)
        ivar = rng.uniform(0.5, 2, flux.shape).astype(np.float32)
        mask = (rng.random(flux.shape) < 0.3).astype(np.int32) * 4
        ivar[rng.random(flux.shape) < 0.02] = 0
        arms[arm] = wavelength, flux, ivar, mask
    return arms


def _write(path, arms, n, **columns):
    """As desispec.io.write_spectra lays a file out."""
    table = {
        "TARGETID": np.arange(39627866878514700, 39627866878514700 + n, dtype=np.int64),
        "TARGET_RA": np.linspace(10, 20, n),
        "TARGET_DEC": np.linspace(-5, 5, n),
        "OBJTYPE": np.full(n, "TGT"),
    } | columns
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(_table(table), name="FIBERMAP")])
    for arm, (wavelength, flux, ivar, mask) in arms.items():
        header = fits.Header({"BUNIT": "10**-17 erg/(s cm2 Angstrom)"})
        hdus.append(fits.ImageHDU(wavelength, name=f"{arm}_WAVELENGTH"))
        hdus.append(fits.ImageHDU(flux, header, name=f"{arm}_FLUX"))
        hdus.append(fits.ImageHDU(ivar, name=f"{arm}_IVAR"))
        hdus.append(fits.CompImageHDU(mask, name=f"{arm}_MASK"))
        hdus.append(fits.ImageHDU(np.ones((n, 3, len(wavelength)), "f4"), name=f"{arm}_RESOLUTION"))
    hdus.writeto(path, overwrite=True)


def _table(columns):
    return fits.FITS_rec.from_columns(
        [
            fits.Column(name, {"i": "K", "f": "D", "U": "3A"}[values.dtype.kind], array=values)
            for name, values in columns.items()
        ]
    )


def test_arms_are_merged_pixel_by_pixel(tmp_path):
    arms = _truth(3)
    _write(tmp_path / "coadd-main.fits", arms, 3)
    spectra = read_spectra(tmp_path / "coadd-main.fits")
    grid = desi_grid()
    assert spectra.ids[0] == "39627866878514700"
    assert spectra.ra.tolist() == [10, 15, 20]
    for pixel in [0, *range(2690, 2760, 3), *range(4895, 4960, 5), 7780]:
        total = weight = np.zeros(3)
        for wavelength, flux, ivar, mask in arms.values():
            (at,) = np.nonzero(np.abs(wavelength - grid[pixel]) < 0.01)
            if len(at):
                w = np.where(mask[:, at[0]] == 0, ivar[:, at[0]], 0)
                total, weight = total + w * flux[:, at[0]], weight + w
        np.testing.assert_allclose(spectra.ivar[:, pixel], weight, rtol=1e-6)
        np.testing.assert_array_equal(spectra.mask[:, pixel], weight == 0)
        expected = total / np.where(weight > 0, weight, 1)
        np.testing.assert_allclose(spectra.flux[:, pixel], expected, rtol=1e-5)


def test_arms_already_merged_and_many_rows(tmp_path):
    n = 300
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(n, 7781)).astype(np.float32)
    merged = {"BRZ": (desi_grid(), flux, np.ones_like(flux), np.zeros(flux.shape, np.int32))}
    kind = np.full(n, "TGT")
    kind[[0, 7, 256]] = "SKY"
    _write(tmp_path / "coadd.fits", merged, n, OBJTYPE=kind)
    spectra = read_spectra(tmp_path / "coadd.fits")
    np.testing.assert_array_equal(spectra.flux, flux[kind == "TGT"])
    chunks = iter_spectra(tmp_path / "coadd.fits", Rejects(strict=True))
    assert [len(chunk) for chunk in chunks] == [254, 43]


def test_exposures_of_one_target_stay_apart(tmp_path):
    target = np.array([7, 7, 8])
    _write(tmp_path / "spectra.fits", _truth(3), 3, TARGETID=target, EXPID=np.array([1, 2, 1]))
    assert read_spectra(tmp_path / "spectra.fits").ids.tolist() == ["7-1", "7-2", "8-1"]


def test_a_dead_fibre_is_set_aside(tmp_path):
    arms = _truth(4)
    for _, _, ivar, _ in arms.values():
        ivar[2] = 0
    arms["B"][1][3, :50] = np.nan
    _write(tmp_path / "coadd.fits", arms, 4)
    with pytest.raises(ValueError, match=r"coadd\.fits, row 2: .*more than half"):
        read_spectra(tmp_path / "coadd.fits")
    rejects = Rejects()
    spectra = read_spectra(tmp_path / "coadd.fits", rejects=rejects)
    assert [r.row for r in rejects] == [2]
    assert spectra.ids.tolist() == [f"3962786687851470{i}" for i in (0, 1, 3)]
    assert spectra.mask[2, :50].all()


def test_one_arm_alone_is_half_a_spectrum(tmp_path):
    arms = _truth(2)
    _write(tmp_path / "coadd.fits", {"B": arms["B"]}, 2)
    with pytest.raises(ValueError, match="more than half"):
        read_spectra(tmp_path / "coadd.fits")


def _shifted(arms):
    arms["R"] = (arms["R"][0] + 0.3, *arms["R"][1:])
    return arms


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_shifted, r"R_WAVELENGTH is not on DESI's grid"),
        (lambda arms: {}, "2 rows and arms"),
        (lambda arms: {"Z": (*arms["Z"][:2], arms["Z"][2][:, :1], arms["Z"][3])}, "Z_IVAR has"),
        (lambda arms: {"B": (arms["B"][0], *(a[:1] for a in arms["B"][1:]))}, "B_FLUX has shape"),
        (lambda arms: {"B": (arms["B"][0] - 8, *arms["B"][1:])}, "beyond 3600-9824"),
    ],
)
def test_wrong_layouts_say_why(tmp_path, spoil, message):
    arms = spoil(_truth(2))
    _write(tmp_path / "coadd.fits", arms, 2)
    with pytest.raises(ValueError, match=message):
        read_spectra(tmp_path / "coadd.fits")


def test_fibres_that_saw_nothing_are_set_aside(tmp_path):
    """BADPOSITION and BADFIBER spoil all, BADAMPB its arm, POORPOSITION and RESTRICTED nothing."""
    n, arms = 6, {arm: (*measured[:3], 0 * measured[3]) for arm, measured in _truth(6).items()}
    status = np.array([0, 1 << 9, 1 << 16, 1 << 22, 1 << 10 | 1 << 3, 1 << 24 | 1 << 9])
    _write(tmp_path / "good.fits", arms, n)
    _write(tmp_path / "spectra.fits", arms, n, FIBERSTATUS=status)
    rejects, good = Rejects(), read_spectra(tmp_path / "good.fits")
    spectra = read_spectra(tmp_path / "spectra.fits", rejects=rejects)
    assert [reject.row for reject in rejects] == [1, 2, 5]
    assert spectra.ids.tolist() == good.ids[[0, 3, 4]].tolist()
    np.testing.assert_array_equal(spectra.ivar[[0, 2]], good.ivar[[0, 4]])
    red = desi_grid() > 5800.1
    assert spectra.mask[1, desi_grid() < 5759.9].all()
    np.testing.assert_array_equal(spectra.flux[1, red], good.flux[3, red])


def test_missing_columns_and_rows(tmp_path):
    _write(tmp_path / "a.fits", _truth(0), 0)
    with pytest.raises(ValueError, match="0 rows"):
        read_spectra(tmp_path / "a.fits")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([], name="FIBERMAP")])
    hdus.writeto(tmp_path / "b.fits")
    with pytest.raises(ValueError, match=r"b\.fits"):
        read_spectra(tmp_path / "b.fits")


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_files_cut_short_are_set_aside(tmp_path, suffix):
    path = tmp_path / f"coadd.{suffix}"
    _write(path, _truth(3), 3)
    whole = path.read_bytes()
    rejects = Rejects()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match="nothing could be read: 1 rejected"):
        read_spectra(path, rejects=rejects)
