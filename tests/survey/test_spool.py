import tracemalloc

import numpy as np
import pytest

from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.spool import Spool


def _images(n, seed, **options):
    rng = np.random.default_rng(seed)
    flux, mask = rng.normal(size=(n, 3, 5, 4)), rng.random((n, 3, 5, 4)) < 0.1
    ids = [f"{seed}-{'x' * i}" for i in range(n)]
    return Images.from_arrays(
        flux, mask=mask, ids=ids, ra=rng.uniform(0, 360, n), pixel_scale=0.2 + seed, **options
    )


def _spectra(n, seed):
    rng = np.random.default_rng(seed)
    wavelength = 4000 + np.arange(9.0) + seed  # each part has its own
    ids = [f"{seed}-{i}" for i in range(n)]
    return Spectra.from_arrays(rng.normal(size=(n, 9)), wavelength=wavelength, ids=ids)


@pytest.mark.parametrize("make", [_images, _spectra])
def test_rows_come_back_in_any_order(tmp_path, make):
    parts = [make(n, seed) for seed, n in enumerate((3, 1, 4))]
    spool, whole = Spool(tmp_path / "spool", iter(parts)), parts[0].concatenate(parts)
    assert len(spool) == 8
    for name in ("ids", "ra", "dec"):
        np.testing.assert_array_equal(getattr(spool, name), getattr(whole, name))
    for rows in ([6, 0, 3, 3], slice(2, 7), 5, np.arange(8) % 2 == 0):
        some, expected = spool[rows], whole[rows]
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(some, name), values)


def test_parts_that_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="kinds"):
        Spool(tmp_path / "a", [_images(2, 0), _images(2, 1, kind="rgb")])
    with pytest.raises(ValueError, match="no rows"):
        Spool(tmp_path / "b", [])


def test_memory_holds_no_pixels(tmp_path):
    """40 MB pass through; a part has 2 MB, and is copied once or twice on its way."""
    parts = (Images.from_arrays(np.zeros((8, 3, 128, 128), np.float32)) for _ in range(20))
    tracemalloc.start()
    try:
        spool = Spool(tmp_path / "spool", parts)
        assert len(spool[::40]) == 4
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
