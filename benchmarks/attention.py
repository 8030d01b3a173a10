"""Attention on a CPU: plain products against torch's fused kernel.

    python benchmarks/attention.py

In turn, median CPU seconds and the ratio fused / plain: forward and backward of (B, H, T, d) in
bfloat16, and forward in float32 with the products of `device.fast_products`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from appulse.device import WIDE, fast_products
from appulse.transformer import MANY, attend
from record import write_result

SHAPES = {  # who uses it: batch, heads, tokens, head width
    "image, tiny": (512, 4, 36, 16),
    "spectrum, tiny": (128, 4, 49, 32),
    "spectrum, published": (2, 6, 778, 128),
}
TOKENS = (36, 145, MANY, 778)  # in float32, of two rows, six heads of 128
REPEATS = 9


def seconds(attention: Callable, inputs: list[torch.Tensor]) -> float:
    before = time.process_time()
    attention(*inputs).sum().backward()
    return time.process_time() - before


def compare(shape: tuple[int, ...]) -> dict[str, float]:
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    fused: Any = F.scaled_dot_product_attention
    plain: Any = attend
    seconds(fused, inputs), seconds(plain, inputs)  # warm up
    pairs = [(seconds(fused, inputs), seconds(plain, inputs)) for _ in range(REPEATS)]
    exact = fused(*(x.double() for x in inputs))
    errors = [(f(*inputs).double() - exact).abs().max().item() for f in (fused, plain)]
    return {
        "fused CPU-s": statistics.median(a for a, _ in pairs),
        "plain CPU-s": statistics.median(b for _, b in pairs),
        "fused / plain": statistics.median(a / b for a, b in pairs),
        "fused error": errors[0],
        "plain error": errors[1],
    }


@torch.inference_mode()
def compare_float32(tokens: int) -> dict[str, float]:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 6, tokens, 128)

    def plain() -> torch.Tensor:
        return (query / 128**0.5 @ key.mT).softmax(-1) @ value

    def fused() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value)

    with fast_products(nn.Linear(WIDE, WIDE)):
        pairs = [(cpu(fused), cpu(plain)) for _ in range(REPEATS + 1)][1:]
    return {
        "fused CPU-s": statistics.median(a for a, _ in pairs),
        "plain CPU-s": statistics.median(b for _, b in pairs),
        "fused / plain": statistics.median(a / b for a, b in pairs),
    }


def cpu(run: Callable[[], torch.Tensor]) -> float:
    before = time.process_time()
    run()
    return time.process_time() - before


def main() -> None:
    results = {name: compare(shape) for name, shape in SHAPES.items()}
    results |= {f"float32, {tokens} tokens": compare_float32(tokens) for tokens in TOKENS}
    for name, result in results.items():
        print(name, {key: f"{value:.3g}" for key, value in result.items()})
    print(write_result("attention", results))


if __name__ == "__main__":
    main()
