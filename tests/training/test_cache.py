import numpy as np
import pytest
import torch

from appulse.training.cache import TensorCache


def parts(n: int, size: int = 3):
    rng = torch.Generator().manual_seed(0)
    for _ in range(0, n, size):
        yield {
            "x": torch.randn(size, 2, 5, generator=rng),
            "half": torch.randn(size, 4, generator=rng).bfloat16(),
            "mask": torch.rand(size, generator=rng) > 0.5,
        }


def test_gives_back_the_rows_bit_for_bit(tmp_path):
    cache = TensorCache.create(tmp_path / "cache", 9, parts(9))
    whole = {name: torch.cat([p[name] for p in parts(9)]) for name in ("x", "half", "mask")}
    rows = np.array([7, 0, 4, 4])
    assert len(cache) == 9
    for name, tensor in cache.take(rows).items():
        assert tensor.dtype == whole[name].dtype
        assert torch.equal(tensor, whole[name][rows])
    assert list(cache.take(slice(2), ["half"])) == ["half"]


def test_a_complete_cache_is_kept_and_an_incomplete_one_made_anew(tmp_path):
    def broken():
        yield next(parts(9))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TensorCache.create(tmp_path / "cache", 9, broken())
    assert not (tmp_path / "cache").exists()
    TensorCache.create(tmp_path / "cache", 9, parts(9))
    assert len(TensorCache.create(tmp_path / "cache", 9, broken())) == 9


@pytest.mark.parametrize("rows", [8, 12])
def test_a_wrong_number_of_rows_is_an_error(tmp_path, rows):
    with pytest.raises(ValueError, match="expected"):
        TensorCache.create(tmp_path / "cache", rows, parts(9))
