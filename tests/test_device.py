from pathlib import Path

import pytest
import torch
from torch import nn

from appulse import device
from appulse.device import WIDE, autocast, fast_products, resolve_device


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
    with autocast(torch.device("cpu"), "float32"):
        assert (x @ x).dtype == torch.float32
    expected = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    with autocast(torch.device("cpu"), "auto"):
        assert (x @ x).dtype == expected


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_falls_back_where_it_would_be_slower_and_says_so(monkeypatch, native, recwarn):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    x = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (x @ x).dtype == (torch.bfloat16 if native else torch.float32)
    assert [str(w.message)[:35] for w in recwarn] == [
        "this CPU has no bfloat16 instruction"[:35]
    ] * (not native)


def test_fast_products_hold_in_their_scope_only_and_are_exact():
    wide, x = nn.Linear(WIDE, WIDE), torch.randn(3, 50, WIDE)
    plain, exact = (
        wide(x),
        nn.functional.linear(x.double(), wide.weight.double(), wide.bias.double()),
    )
    with fast_products(wide):
        on = torch.backends.mkldnn.matmul.fp32_precision
        fast = wide(x)
    assert on == ("bf16" if device._onednn_is_exact() else "none")
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    torch.testing.assert_close(fast.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_fast_products_need_a_wide_model_and_an_exact_machine(monkeypatch):
    with fast_products(nn.Linear(WIDE, WIDE - 1)):
        assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    monkeypatch.setattr(device, "_onednn_is_exact", lambda: False)
    with fast_products(nn.Linear(WIDE, WIDE)):
        assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_the_probe_notices_inputs_that_are_rounded(monkeypatch):
    """As processors with AMX would round them."""
    whole = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda x: whole(x.bfloat16()))
    assert not device._onednn_is_exact.__wrapped__()


def test_scopes_of_several_threads_leave_torch_as_it_was(monkeypatch):
    """The one that opens first may close first."""
    monkeypatch.setattr(device, "_onednn_is_exact", lambda: True)
    products = torch.backends.mkldnn.matmul
    first, second = (fast_products(nn.Linear(WIDE, WIDE)) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert products.fp32_precision == "bf16"
    second.__exit__(None, None, None)
    assert products.fp32_precision == "none"


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    """Threads that read ahead have another current GPU than the rank that they read for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for name in ("auto", "cuda"):
        assert resolve_device(name) == torch.device("cuda", 3)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


def test_seeds_in_a_scope_touch_no_gpu_that_was_not_named():
    for path in Path(device.__file__).parent.rglob("*.py"):
        assert "fork_rng()" not in path.read_text(), path
