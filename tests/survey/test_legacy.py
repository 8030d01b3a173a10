import io
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from appulse.survey.legacy import read_cutout, read_picture
from appulse.survey.rejects import Rejects


def _header(size, scale=0.262, bands="grz", ra=150.1, dec=2.2, survey="LegacySurvey"):
    """As legacysurvey/imagine writes it (views.py, write_cutout)."""
    header = fits.Header()
    header["SURVEY"] = survey
    header["VERSION"] = "DR9"
    header["IMAGETYP"] = "IMAGE"
    header["BANDS"] = bands
    for i, band in enumerate(bands):
        header[f"BAND{i}"] = band
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"] = header["CRPIX2"] = (size + 1) / 2
    header["CD1_1"], header["CD1_2"] = -scale / 3600, 0.0
    header["CD2_1"], header["CD2_2"] = 0.0, scale / 3600
    header["IMAGEW"] = header["IMAGEH"] = size
    return header


def _cube(size, bands=3, seed=0):
    return np.random.default_rng(seed).normal(size=(bands, size, size)).astype(np.float32)


def _read(path):
    (images,) = read_cutout(path, Rejects(strict=True))
    return images


def test_a_viewer_cutout(tmp_path):
    cube = _cube(64)
    fits.PrimaryHDU(cube, _header(64)).writeto(tmp_path / "galaxy-7.fits")
    images = _read(tmp_path / "galaxy-7.fits")
    np.testing.assert_array_equal(images.flux[0], cube)
    assert images.ids.tolist() == ["galaxy-7"]
    assert images.kind == "flux"
    assert (images.ra[0], images.dec[0]) == pytest.approx((150.1, 2.2), abs=1e-7)
    assert images.pixel_scale[0] == 0.262


def test_the_centre_is_where_the_wcs_says(tmp_path):
    header = _header(32)
    header["CRPIX1"], header["CRPIX2"] = 3.0, 40.0
    fits.PrimaryHDU(_cube(32), header).writeto(tmp_path / "a.fits")
    images = _read(tmp_path / "a.fits")
    sky = WCS(header, naxis=2).pixel_to_world(15.5, 15.5)
    assert images.ra[0] == pytest.approx(sky.ra.deg)
    assert images.dec[0] == pytest.approx(sky.dec.deg)


def test_bands_are_found_by_name(tmp_path):
    cube = _cube(16, bands=4)
    fits.PrimaryHDU(cube, _header(16, bands="zirg")).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(_read(tmp_path / "a.fits").flux[0], cube[[3, 2, 0]])
    header = _header(16, bands="griz")
    for i in range(4):
        del header[f"BAND{i}"]
    fits.PrimaryHDU(cube, header).writeto(tmp_path / "b.fits")
    np.testing.assert_array_equal(_read(tmp_path / "b.fits").flux[0], cube[[0, 1, 3]])


def test_inverse_variance_masks(tmp_path):
    invvar = np.ones((3, 20, 20), np.float32)
    invvar[1, 4:7, 5] = 0
    header = _header(20)
    header["IMAGETYP"] = "INVVAR"
    bits = fits.Header({"IMAGETYP": "MASKBITS", "BANDS": "grz"})
    cube = _cube(20)
    cube[2, 0, 0] = 0  # measured, and 0
    fits.HDUList(
        [
            fits.PrimaryHDU(cube, _header(20)),
            fits.ImageHDU(invvar, header),
            fits.ImageHDU(np.zeros((20, 20), np.int16), bits),
            fits.ImageHDU(np.ones((5, 5)), name="PSF"),
        ]
    ).writeto(tmp_path / "a.fits")
    images = _read(tmp_path / "a.fits")
    np.testing.assert_array_equal(images.mask[0], invvar == 0)


def test_places_without_data_are_masked(tmp_path):
    cube = _cube(20)
    cube[0, :, :5] = 0
    cube[1, 3, 3] = np.nan
    fits.PrimaryHDU(cube, _header(20)).writeto(tmp_path / "a.fits")
    images = _read(tmp_path / "a.fits")
    assert images.mask[0, 0, :, :5].all()
    assert images.mask.sum() == 101


def test_one_hdu_for_each_band(tmp_path):
    """The viewer's `subimage` cutouts: image and invvar for each band."""
    cube, hdus = _cube(20), fits.HDUList([fits.PrimaryHDU()])
    for i, band in ((2, "z"), (0, "g"), (1, "r")):
        for kind, pixels in (("image", cube[i]), ("invvar", np.ones((20, 20), np.float32))):
            header = _header(20)
            del header["BAND*"]
            header["BAND"], header["IMAGETYP"] = band, kind
            hdus.append(fits.ImageHDU(pixels, header))
    hdus.writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(_read(tmp_path / "a.fits").flux[0], cube)
    hdus.append(hdus[1].copy())
    hdus.writeto(tmp_path / "b.fits")
    with pytest.raises(ValueError, match="band z occurs twice"):
        _read(tmp_path / "b.fits")


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.fz"])
def test_compressed_files(tmp_path, suffix):
    path, cube = tmp_path / f"a{suffix}", _cube(32)
    if suffix == ".fits.gz":
        fits.PrimaryHDU(cube, _header(32)).writeto(path)
    else:
        image = fits.CompImageHDU(cube, _header(32), compression_type="GZIP_2", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    images = _read(path)
    np.testing.assert_array_equal(images.flux[0], cube)
    assert images.ids.tolist() == ["a"]


def _blob(size, scale):
    offset = (np.arange(size) - (size - 1) / 2) * scale
    profile = np.exp(-(offset[:, None] ** 2 + offset**2) / 2)
    return np.broadcast_to(profile, (3, size, size)).astype(np.float32) + 1e-9


def test_other_scales_keep_the_flux(tmp_path):
    """Nanomaggies per pixel, whatever its size."""
    cube = _blob(100, 0.2)
    fits.PrimaryHDU(cube, _header(100, 0.2, survey="mine")).writeto(tmp_path / "a.fits")
    images = _read(tmp_path / "a.fits")
    assert images.flux.shape[-1] == 76
    np.testing.assert_allclose(images.flux.sum((2, 3))[0], cube.sum((1, 2)), rtol=1e-4)


def test_the_viewer_resamples_without_conserving_flux(tmp_path):
    """Its values stay nanomaggies per 0.262″ pixel, so the brightness of a pixel is kept."""
    fits.PrimaryHDU(_blob(200, 0.1), _header(200, 0.1)).writeto(tmp_path / "a.fits")
    images = _read(tmp_path / "a.fits")
    np.testing.assert_allclose(images.flux[0], _blob(76, 0.262), atol=0.01)


def _without(*keys):
    header = _header(16)
    for key in keys:
        del header[key]
    return header


@pytest.mark.parametrize(
    ("cube", "header", "message"),
    [
        (_cube(16, bands=2), _header(16, bands="gr"), "no band z; expected g, r, z"),
        (_cube(16), _without("BANDS", "BAND?"), r"no band g, r, z; .*found \[\]"),
        (_cube(16), _header(16, bands="grizy"), "names bands"),
        (_cube(16), _without("CTYPE1", "CTYPE2", "CD*"), "no celestial WCS"),
        (_cube(16), _header(16, scale=1e-3), "make no image"),
        (np.full((3, 16, 16), np.nan, np.float32), _header(16), "more than half"),
        (np.zeros((3, 16, 16), np.float32), _header(16), "more than half"),
        (None, _header(16), "no band g, r, z"),
    ],
)
def test_unusable_files_say_why(tmp_path, cube, header, message):
    fits.PrimaryHDU(cube, header).writeto(tmp_path / "a.fits")
    rejects = Rejects()
    assert list(read_cutout(tmp_path / "a.fits", rejects)) == []
    (reject,) = rejects
    assert reject.row == 0
    assert re.search(message, reject.reason), reject.reason


@pytest.mark.parametrize("unit", ["adu", "nanomaggies/arcsec^2", "nanomaggy2", ""])
def test_other_units_are_refused(tmp_path, unit):
    fits.PrimaryHDU(_cube(16), _header(16)).writeto(tmp_path / "a.fits")
    fits.setval(tmp_path / "a.fits", "BUNIT", value=unit)
    with pytest.raises(ValueError, match=rf"unit is {re.escape(unit)}.*; expected nanomaggies"):
        _read(tmp_path / "a.fits")


@pytest.mark.parametrize("unit", ["nanomaggy", "Nanomaggies", "nanomaggy/pixel"])
def test_nanomaggies_by_their_names(tmp_path, unit):
    fits.PrimaryHDU(_cube(16), _header(16)).writeto(tmp_path / "cutout_150.1191_2.2058.fits")
    fits.setval(tmp_path / "cutout_150.1191_2.2058.fits", "BUNIT", value=unit)
    images = _read(tmp_path / "cutout_150.1191_2.2058.fits")
    assert images.ids.tolist() == ["cutout_150.1191_2.2058"]


def test_oblong_pixels_are_refused(tmp_path):
    header = _header(16)
    header["CD1_1"] *= 2
    fits.PrimaryHDU(_cube(16), header).writeto(tmp_path / "a.fits")
    with pytest.raises(ValueError, match="not square"):
        _read(tmp_path / "a.fits")


@pytest.mark.parametrize("keep", [0, 100, 3000, 8000])
def test_files_cut_short_are_set_aside(tmp_path, keep):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(_cube(64), _header(64)).writeto(path)
    path.write_bytes(path.read_bytes()[:keep])
    rejects = Rejects()
    assert list(read_cutout(path, rejects)) == []
    assert len(rejects) == 1


def _picture(pixels, kind="PNG", mode=None):
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(data, kind)
    return data.getvalue()


def test_pictures_are_turned_to_the_fits_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    (tmp_path / "12345.png").write_bytes(_picture(pixels))
    (images,) = read_picture(tmp_path / "12345.png", Rejects(strict=True))
    assert images.kind == "rgb"
    assert images.ids.tolist() == ["12345"]
    assert images.flux.shape == (1, 3, 24, 20)
    for colour in range(3):
        np.testing.assert_allclose(images.flux[0, colour], pixels[::-1, :, colour] / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_other_colour_modes(tmp_path, mode):
    pixels = np.full((8, 8, 3), 51, np.uint8)
    (tmp_path / "a.png").write_bytes(_picture(pixels, mode=mode))
    (images,) = read_picture(tmp_path / "a.png", Rejects(strict=True))
    np.testing.assert_allclose(images.flux, 0.2, atol=0.01)


def test_grey_pictures_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(_picture(np.zeros((8, 8), np.uint8)))
    with pytest.raises(ValueError, match="mode L; expected colours"):
        list(read_picture(tmp_path / "a.png", Rejects(strict=True)))


def test_pictures_are_resampled(tmp_path):
    (tmp_path / "a.jpeg").write_bytes(_picture(np.full((256, 256, 3), 100, np.uint8), "JPEG"))
    (images,) = read_picture(tmp_path / "a.jpeg", Rejects(strict=True), pixel_scale=0.1)
    assert images.flux.shape == (1, 3, 96, 96)
    np.testing.assert_allclose(images.flux, 100 / 255, atol=0.01)


def test_torn_pictures_are_set_aside(tmp_path):
    whole = _picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    rejects = Rejects()
    for keep in (0, 20, len(whole) // 2):
        (tmp_path / "a.png").write_bytes(whole[:keep])
        assert list(read_picture(tmp_path / "a.png", rejects)) == []
    assert len(rejects) == 3


def test_the_real_pictures(shared):
    folder = shared / "data" / "real" / "pairs_legacysurvey_sdss"
    for path in sorted(folder.glob("*.jpeg"))[:4]:
        (images,) = read_picture(path, Rejects(strict=True), pixel_scale=0.1)
        assert images.ids[0] == path.stem
        centre = images.flux[0, :, 43:53, 43:53].mean()
        assert centre > 2 * np.median(images.flux)
