"""Inverse hyperbolic sine of a batch of cutouts: NumPy's against torch's, on one thread.

python benchmarks/arcsinh.py
"""

import statistics
import time
from collections.abc import Callable

import torch

from appulse.image.vit import arcsinh
from record import write_result


def seconds(function: Callable, x: torch.Tensor) -> float:
    before = time.process_time()
    function(x)
    return time.process_time() - before


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = 10 * torch.randn(256, 3, 72, 72)
    pairs = [(seconds(torch.asinh, x), seconds(arcsinh, x)) for _ in range(11)][1:]
    exact = torch.asinh(x.double())
    result = {
        "torch CPU-s": statistics.median(a for a, _ in pairs),
        "ours CPU-s": statistics.median(b for _, b in pairs),
        "torch / ours": statistics.median(a / b for a, b in pairs),
        "torch error": (torch.asinh(x).double() - exact).abs().max().item(),
        "our error": (arcsinh(x).double() - exact).abs().max().item(),
    }
    print(result)
    print(write_result("arcsinh", result))


if __name__ == "__main__":
    main()
