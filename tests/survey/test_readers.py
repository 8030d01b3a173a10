import gzip

import h5py
import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from appulse import read_images, read_spectra
from appulse.survey.readers import iter_images, modality_of
from appulse.survey.rejects import Rejects
from appulse.units import FLUX_UNIT


def _png(path, height=20, width=20, value=100):
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def test_several_files_keep_their_order(tmp_path):
    for name, value in (("b", 51), ("a", 102), ("c", 153)):
        _png(tmp_path / f"{name}.png", value=value)
    images = read_images([tmp_path / "c.png", f"{tmp_path}/[ab].png"])
    assert images.ids.tolist() == ["c", "a", "b"]
    np.testing.assert_allclose(images.flux[:, 0, 0, 0], [0.6, 0.4, 0.2], atol=1e-6)


def test_sizes_must_agree_or_be_given(tmp_path):
    _png(tmp_path / "a.png", 20, 20)
    _png(tmp_path / "b.png", 30, 24)
    with pytest.raises(ValueError, match="sizes"):
        read_images(f"{tmp_path}/*.png")
    images = read_images(f"{tmp_path}/*.png", size=24)
    assert images.flux.shape == (2, 3, 24, 24)
    assert images.mask[0, 0].sum() == 24**2 - 20**2
    assert not images.mask[1].any()


def test_files_that_differ_after_a_dot_are_different_galaxies(tmp_path):
    """As the viewer names its downloads."""
    names = ["cutout_150.1191_2.2058", "cutout_150.1191_2.3", "cutout_150.3_2.3"]
    grid = np.arange(3600.0, 9824, 2)
    for name in names:
        _png(tmp_path / f"{name}.png")
        table = Table({"wavelength": grid * units.AA, "flux": grid * units.Unit(FLUX_UNIT)})
        table.write(tmp_path / f"{name}.ecsv", format="ascii.ecsv")
        table.write(tmp_path / f"{name}.fits.gz")
    assert read_images(f"{tmp_path}/*.png").ids.tolist() == names
    assert read_spectra(f"{tmp_path}/*.ecsv").ids.tolist() == names
    assert read_spectra(f"{tmp_path}/*.fits.gz").ids.tolist() == names


def test_the_content_decides_not_the_name(tmp_path):
    _png(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.fits")
    assert read_images(tmp_path / "a.fits").kind == "rgb"


def test_foreign_missing_and_empty_files_are_set_aside(tmp_path):
    _png(tmp_path / "good.png")
    (tmp_path / "text.fits").write_text("hello")
    (tmp_path / "empty.fits").touch()
    names = [tmp_path / name for name in ("text.fits", "none.fits", "empty.fits", "good.png")]
    rejects = Rejects()
    assert len(read_images([*names, tmp_path], rejects=rejects)) == 1
    reasons = [r.reason for r in rejects]
    assert "begins with b'hello'; expected FITS" in reasons[0]
    assert "FileNotFoundError" in reasons[1]
    assert "begins with b''" in reasons[2]
    assert "IsADirectoryError" in reasons[3]
    assert all(r.row is None for r in rejects)


def test_nothing_good_is_an_error_with_the_first_reason(tmp_path):
    (tmp_path / "a.fits").write_text("hello")
    rejects = Rejects()
    with pytest.raises(ValueError, match=r"nothing could be read: 1 rejected, first .*hello"):
        read_images(tmp_path / "a.fits", rejects=rejects)
    with pytest.raises(FileNotFoundError, match="no file matches"):
        read_images(f"{tmp_path}/*.nothing")


def test_spectra_are_not_images_and_the_other_way_round(tmp_path):
    _png(tmp_path / "a.png")
    with pytest.raises(ValueError, match="picture files hold no spectra"):
        read_spectra(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", flux=np.ones(3))
    with pytest.raises(ValueError, match="npz files hold no images"):
        read_images(tmp_path / "a.npz")


def test_files_are_read_as_they_are_needed(tmp_path):
    _png(tmp_path / "a.png")
    parts = iter_images([tmp_path / "a.png", tmp_path / "none.png"], Rejects(strict=True))
    assert next(parts).ids.tolist() == ["a"]
    with pytest.raises(ValueError, match="none"):
        next(parts)


def _fits(path, *names):
    fits.HDUList(
        [fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((2, 2)), name=n) for n in names)]
    ).writeto(path)
    return path


@pytest.mark.parametrize(
    ("hdus", "modality"),
    [(("FIBERMAP", "B_FLUX"), "spectrum"), (("COADD",), "spectrum"), (("IMAGE",), "image")],
)
def test_fits_files_say_by_their_hdus_what_they_hold(tmp_path, hdus, modality):
    path = _fits(tmp_path / "a.fits", *hdus)
    assert modality_of(path) == modality
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert modality_of(tmp_path / "b.fits.gz") == modality


def test_pictures_and_tables_say_it_by_their_kind(tmp_path):
    _png(tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    np.savez(tmp_path / "a.npz", flux=np.ones(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("galaxy")["flux"] = np.ones(5)
    kinds = {name: modality_of(tmp_path / f"a.{name}") for name in ("png", "jpg", "npz", "h5")}
    assert kinds == {"png": "image", "jpg": "image", "npz": "spectrum", "h5": "spectrum"}


def test_the_first_good_file_decides(tmp_path):
    (tmp_path / "text.fits").write_text("hello")
    (tmp_path / "empty.fits").touch()
    (tmp_path / "cut.fits").write_bytes(_fits(tmp_path / "a.fits", "COADD").read_bytes()[:5770])
    _png(tmp_path / "good.png")
    bad = [tmp_path / name for name in ("none.png", "text.fits", "empty.fits", "cut.fits")]
    assert modality_of([*bad, tmp_path, tmp_path / "good.png", tmp_path / "a.fits"]) == "image"
    assert modality_of([*bad, tmp_path / "a.fits", tmp_path / "good.png"]) == "spectrum"
    with pytest.raises(ValueError, match="cannot tell images from spectra"):
        modality_of(bad)


def test_damage_of_any_kind_does_not_decide(tmp_path):
    """A gzip cut short or corrupt, FITS and HDF5 of nonsense; the first reason is told."""
    rng = np.random.default_rng(0)
    image = fits.PrimaryHDU(rng.normal(size=(3, 30, 30)))
    image.writeto(tmp_path / "a.fits")
    packed = gzip.compress((tmp_path / "a.fits").read_bytes())
    (tmp_path / "cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "corrupt.fits.gz").write_bytes(packed[:2000] + bytes(60) + packed[2060:])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(3)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "bad.h5").write_bytes(whole[:48] + bytes(200) + whole[248:])
    bad = [tmp_path / name for name in ("cut.fits.gz", "corrupt.fits.gz", "bad.h5")]
    assert modality_of([*bad, tmp_path / "a.fits"]) == "image"
    with pytest.raises(ValueError, match=r"3 rejected, first .*cut\.fits\.gz: EOFError") as error:
        modality_of(bad)
    assert "Path(" not in str(error.value)


@pytest.mark.parametrize(("pixels", "kept"), [(20, 0), (48, 0), (50, 1)])
def test_a_stamp_that_is_mostly_padding_is_no_observation(tmp_path, pixels, kept):
    _png(tmp_path / "small.png", pixels, pixels)
    _png(tmp_path / "good.png", 100, 100)
    rejects = Rejects()
    images = read_images(f"{tmp_path}/*.png", size=100, rejects=rejects)
    assert len(images) == 1 + kept
    for reject in rejects:
        assert f"image small has {pixels} by {pixels} pixels and fills less" in reject.reason
    assert len(rejects) == 1 - kept


def test_a_file_that_holds_both_is_a_survey(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("0")["image"] = np.ones((1, 4, 4, 3))
    with pytest.raises(ValueError, match="holds images and spectra; make a survey of it"):
        modality_of(tmp_path / "a.h5")
