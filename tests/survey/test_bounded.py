import gzip
import zipfile

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from appulse.survey import bounded


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    monkeypatch.setattr(bounded, "LIMIT", 2**20)


TOO_LARGE = r"unpacks to \d+ MiB; the limit is 1 MiB"


def test_gzipped_fits_stops_unpacking_at_the_limit(tmp_path):
    with gzip.open(tmp_path / "a.fits.gz", "wb") as handle:
        for _ in range(64):
            handle.write(b" " * 2**20)
    with pytest.raises(ValueError, match=TOO_LARGE), bounded.open_fits(tmp_path / "a.fits.gz"):
        pass


def test_compressed_images(tmp_path):
    image = fits.CompImageHDU(np.zeros((2000, 2000), np.float32))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    with (
        bounded.open_fits(tmp_path / "a.fits.fz") as hdus,
        pytest.raises(ValueError, match=TOO_LARGE),
    ):
        bounded.fits_image(hdus[1])


def test_npz(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", flux=np.zeros((1000, 1000)))
    assert (tmp_path / "a.npz").stat().st_size < 2**16
    with pytest.raises(ValueError, match=TOO_LARGE):
        bounded.npz_arrays(tmp_path / "a.npz")


def test_npz_that_lies_about_its_shape(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("flux.npy", member)
    with pytest.raises((ValueError, MemoryError)):
        bounded.npz_arrays(tmp_path / "a.npz")


def test_hdf5_chunks_and_rows(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunk", (10**6,), "f4", chunks=(10**6,), compression="gzip")
        file.create_dataset("rows", (10, 10**6), "f4", chunks=(1, 1000), compression="gzip")
        with pytest.raises(ValueError, match=TOO_LARGE):
            bounded.hdf5_rows(file["chunk"], slice(0, 1))
        with pytest.raises(ValueError, match=TOO_LARGE):
            bounded.hdf5_rows(file["rows"], slice(0, 1))


def test_pictures(tmp_path):
    Image.new("RGB", (1000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=TOO_LARGE):
        bounded.picture(tmp_path / "a.png")


def test_what_fits_is_read(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits.gz")
    with bounded.open_fits(tmp_path / "a.fits.gz") as hdus:
        np.testing.assert_array_equal(bounded.fits_image(hdus[0]), pixels)
    np.savez(tmp_path / "a.npz", pixels=pixels)
    np.testing.assert_array_equal(bounded.npz_arrays(tmp_path / "a.npz")["pixels"], pixels)
