import h5py
import numpy as np
import pytest

from appulse.survey.hdf5 import read_release
from appulse.survey.readers import modality_of, read_images, read_spectra
from appulse.survey.rejects import Rejects
from appulse.units import desi_grid


def _write_release(path, sizes=(3, 5), **spoil):
    """As AstroCLIP's scripts/export_data.py: images are the transpose of (band, y, x)."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(sum(sizes), 3, 10, 12)).astype(np.float32)
    flux = rng.normal(5, 1, (sum(sizes), 7781)).astype(np.float32)
    first = 0
    with h5py.File(path, "w") as file:
        for i, n in enumerate(sizes):
            group, rows = file.create_group(str(i)), slice(first, first + n)
            group["image"] = np.stack([image.T for image in images[rows]])
            group["spectrum"] = flux[rows, :, None]
            group["redshift"] = np.linspace(0, 1, n, dtype=np.float32)
            group["targetid"] = 39627866878514700 + np.arange(first, first + n)
            for name, change in spoil.items():
                change(group, i) if name == "group" else None
            first += n
    return images, flux


def test_the_release_comes_out_the_right_way_round(tmp_path):
    images, flux = _write_release(tmp_path / "r.h5")
    parts = list(read_release(tmp_path / "r.h5", Rejects(strict=True)))
    np.testing.assert_array_equal(np.concatenate([p.images.flux for p in parts]), images)
    np.testing.assert_array_equal(np.concatenate([p.spectra.flux for p in parts]), flux)
    ids = np.concatenate([p.ids for p in parts])
    assert ids.tolist() == [str(39627866878514700 + i) for i in range(8)]
    np.testing.assert_allclose(parts[0].columns["redshift"], [0, 0.5, 1])
    # the release has no errors: the noise that it shows
    assert np.median(parts[0].spectra.ivar) == pytest.approx(1, rel=0.1)


def test_either_half_alone(tmp_path):
    images, flux = _write_release(tmp_path / "r.h5")
    np.testing.assert_array_equal(read_images(tmp_path / "r.h5").flux, images)
    np.testing.assert_array_equal(read_spectra(tmp_path / "r.h5").flux, flux)
    assert read_images(tmp_path / "r.h5", size=8).flux.shape == (8, 3, 8, 8)


def test_groups_come_in_numerical_order(tmp_path):
    images, _ = _write_release(tmp_path / "r.h5", sizes=(1,) * 11)
    np.testing.assert_array_equal(read_images(tmp_path / "r.h5").flux, images)


def test_bad_pairs_are_set_aside(tmp_path):
    def spoil(group, i):
        if i == 1:
            group["image"][2] = np.nan
            group["spectrum"][4] = np.nan

    images, _ = _write_release(tmp_path / "r.h5", group=spoil)
    rejects = Rejects()
    got = read_images(tmp_path / "r.h5", rejects=rejects)
    np.testing.assert_array_equal(got.flux, images[[0, 1, 2, 3, 4, 6]])
    assert [r.row for r in rejects] == [5, 7]
    with pytest.raises(ValueError, match=r"r\.h5, row 5"):
        read_images(tmp_path / "r.h5")


def test_a_damaged_chunk_costs_its_own_rows(tmp_path):
    path = tmp_path / "r.h5"
    images, _ = _write_release(path, sizes=(6,))
    with h5py.File(path, "a") as file:
        del file["0/image"]
        packed = file.create_dataset(
            "0/image", data=images.transpose(0, 3, 2, 1), chunks=(2, 12, 10, 3), compression="gzip"
        )
        chunk = packed.id.get_chunk_info(1)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    rejects = Rejects()
    got = read_images(path, rejects=rejects)
    np.testing.assert_array_equal(got.flux, images[[0, 1, 4, 5]])
    assert [r.row for r in rejects] == [2, 3]


def test_missing_or_uneven_datasets_say_so(tmp_path):
    def drop(group, i):
        if i == 1:
            del group["redshift"]

    _write_release(tmp_path / "a.h5", group=drop)
    rejects = Rejects()
    assert len(read_images(tmp_path / "a.h5", rejects=rejects)) == 3
    assert "group /1 has no redshift" in next(iter(rejects)).reason

    def shorten(group, i):
        del group["redshift"]
        group["redshift"] = np.zeros(2)

    _write_release(tmp_path / "b.h5", group=shorten)
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        read_images(tmp_path / "b.h5")


def _write_stein(path, n=5, drop=(), **columns):
    """As ssl-legacysurvey's images_npix152_*.h5, with smaller images."""
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.normal(size=(n, 3, 10, 12)).astype(np.float32),
        "ra": np.linspace(10, 20, n),
        "dec": np.linspace(-5, 5, n),
        "inds": np.arange(100, 100 + n),
        "release": np.full(n, 9010),
        "brickid": np.full(n, 330368, np.int32),
        "objid": np.arange(n, dtype=np.int32),
        "flux": rng.normal(size=(n, 3)),
        "z_spec": np.full(n, -99.0),
        "ebv": np.full(n, 0.03),
        **columns,
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if name not in drop:
                file[name] = array
    return arrays


def test_images_of_stein_and_others(tmp_path):
    arrays = _write_stein(tmp_path / "a.h5", n=300)
    images = read_images(tmp_path / "a.h5")
    np.testing.assert_array_equal(images.flux, arrays["images"])
    np.testing.assert_array_equal(images.ra, arrays["ra"])
    np.testing.assert_array_equal(images.dec, arrays["dec"])
    assert not images.mask.any()
    assert images.kind == "flux"
    assert set(images.pixel_scale) == {0.262}
    assert read_images(tmp_path / "a.h5", size=8).flux.shape == (300, 3, 8, 8)
    assert modality_of(tmp_path / "a.h5") == "image"
    with pytest.raises(ValueError, match="holds images and no spectra; read it with read_images"):
        read_spectra(tmp_path / "a.h5")


def test_ids_of_stein_are_desi_targetids(tmp_path, shared):
    """The parts of a real TARGETID, as its bits are published, make it again."""
    with h5py.File(shared / "data" / "real" / "spectra_desi.h5") as file:
        real = [int(group.attrs["targetid"]) for group in file.values()]
    real = [targetid for targetid in real if 2**52 < targetid < 2**58]  # no sky, no mocks
    assert real
    bits = [f"{targetid:064b}" for targetid in real]
    parts = {
        "release": [int(b[6:22], 2) for b in bits],
        "brickid": [int(b[22:42], 2) for b in bits],
        "objid": [int(b[42:], 2) for b in bits],
    }
    assert set(parts["release"]) <= {8000, 8001, 8888, 9010, 9011}  # 8888: secondary targets
    _write_stein(tmp_path / "a.h5", len(real), **{k: np.array(v) for k, v in parts.items()})
    assert read_images(tmp_path / "a.h5").ids.tolist() == [str(targetid) for targetid in real]
    _write_stein(tmp_path / "b.h5", 2, drop=("objid",))
    assert read_images(tmp_path / "b.h5").ids.tolist() == ["100", "101"]


def test_bad_rows_of_stein_are_set_aside(tmp_path):
    images = np.random.default_rng(1).normal(size=(270, 3, 4, 4)).astype(np.float32)
    images[3] = np.nan
    images[260] = 0  # outside the survey
    images[5, 1, 2, 2] = 0
    _write_stein(tmp_path / "a.h5", 270, images=images)
    rejects = Rejects()
    read = read_images(tmp_path / "a.h5", rejects=rejects)
    assert [reject.row for reject in rejects] == [3, 260]
    assert "more than half" in next(iter(rejects)).reason
    np.testing.assert_array_equal(read.flux, np.delete(images, [3, 260], axis=0))
    assert np.argwhere(read.mask).tolist() == [[4, 1, 2, 2]]


@pytest.mark.parametrize("change", [{"ra": np.zeros(4)}, {"drop": ("dec",)}])
def test_uneven_rows_of_stein_say_so(tmp_path, change):
    _write_stein(tmp_path / "a.h5", **change)
    with pytest.raises(ValueError, match="expected as many of images as of ra and dec"):
        read_images(tmp_path / "a.h5")


def _write_groups(path):
    grid = desi_grid()
    with h5py.File(path, "w") as file:
        whole = file.create_group("000")
        whole["wave"], whole["flux"] = grid, np.full(7781, 2.0)
        whole["ivar"], whole["mask"] = np.full(7781, 4.0), np.arange(7781) < 10
        whole.attrs.update(targetid="77", ra=1.5, dec=-2.5)
        bare = file.create_group("001")
        bare["wave"] = 3500 + np.arange(7958) * 0.8
        bare["flux"] = np.random.default_rng(0).normal(3, 0.5, 7958)
        torn = file.create_group("002")
        torn["flux"] = np.ones(7781)


def test_one_group_per_spectrum(tmp_path):
    _write_groups(tmp_path / "s.h5")
    rejects = Rejects()
    spectra = read_spectra(tmp_path / "s.h5", rejects=rejects)
    assert spectra.ids.tolist() == ["77", "001"]
    assert np.flatnonzero(spectra.mask[0]).tolist() == list(range(10))
    assert (spectra.flux[0, 10:] == 2).all()
    assert (spectra.ivar[0, 10:] == 4).all()
    assert spectra.ra[0] == 1.5
    assert np.isnan(spectra.ra[1])
    assert spectra.flux[1].mean() == pytest.approx(3, abs=0.05)
    assert [(r.row, "wave" in r.reason) for r in rejects] == [(2, True)]


def test_the_real_groups(shared):
    rejects = Rejects()
    spectra = read_spectra(shared / "data" / "real" / "spectra_desi.h5", rejects=rejects)
    assert len(spectra) + len(rejects) == 34
    assert len(spectra) >= 27
    assert (spectra.mask.mean(axis=1) < 0.5).all()
    assert all("more than half" in r.reason for r in rejects)


def test_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(ValueError, match=r"a\.h5"):
        read_images(tmp_path / "a.h5")


def test_a_targetid_that_was_stored_as_a_float_is_a_whole_number(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, targetid in (("a", 39627866878514704.0), ("b", np.array([5]))):
            file[f"{name}/wave"], file[f"{name}/flux"] = desi_grid(), np.ones(7781)
            file[name].attrs["targetid"] = targetid
    assert read_spectra(tmp_path / "a.h5").ids.tolist() == ["39627866878514704", "5"]
