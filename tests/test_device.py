import pytest
import torch

from appulse.device import autocast, resolve_device


def test_auto_takes_an_accelerator_where_there_is_one():
    kind = resolve_device("auto").type
    assert (kind == "cpu") == (
        not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )


def test_unknown_and_absent_devices_are_named():
    with pytest.raises(ValueError, match="'tpu' is unknown; expected auto, cpu, cuda or mps"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no cuda"):
            resolve_device("cuda")


def test_precision_is_what_is_asked_for():
    x = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "float32"):
        assert (x @ x).dtype == torch.float32
    expected = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    with autocast(torch.device("cpu"), "auto"):
        assert (x @ x).dtype == expected
