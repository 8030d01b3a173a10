import errno
import subprocess
import sys

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


def on_a_small_disk(path, command):
    """Runs a command where `path` is a disk of 64 kB, in namespaces of its own."""
    script = f'mount -t tmpfs -o size=64k none {path} && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command], capture_output=True, text=True
    )


def test_a_full_disk_is_an_error_and_not_the_end(tmp_path):
    try:
        possible = on_a_small_disk(tmp_path, ["true"]).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this machine lets nobody mount a small disk")
    code = f"""
import torch
from appulse.training.cache import TensorCache
batches = ({{"x": torch.zeros(8, 512)}} for _ in range(100))
try:
    TensorCache.create({str(tmp_path / "cache")!r}, 800, batches)
except OSError as error:
    print(error.errno)
"""
    done = on_a_small_disk(tmp_path, [sys.executable, "-c", code])
    assert (done.returncode, done.stdout.strip()) == (0, str(errno.ENOSPC)), done.stderr
