"""Both towers at published sizes on one GPU: rows per second and share of its bfloat16 rate.

    python benchmarks/gpu.py          # needs a CUDA GPU with 40 GB; two minutes
    python benchmarks/gpu.py --smoke  # a tiny model, on the CPU if there is no GPU: does it run?

The rate is that of a product of two matrices of side 8192, measured in the same run. Plain is eager
float32; the others are bfloat16, eager and with blocks that `torch.compile` made.
"""

import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch

from appulse.device import autocast
from published_size import flops, image_inputs, image_trunk, spectrum_inputs, spectrum_trunk
from record import write_result

SMOKE = "--smoke" in sys.argv
PLACE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COMPILER = "inductor" if PLACE.type == "cuda" else "aot_eager"  # the CPU's needs a C++ compiler
ROWS = 2 if SMOKE else 64
SECONDS = 0.1 if SMOKE else 3.0  # of each measurement
SIZES = {"width": 64, "depth": 2, "heads": 2} if SMOKE else {}


def wait() -> None:
    if PLACE.type == "cuda":
        torch.cuda.synchronize()


def per_second(run: Callable[[], Any]) -> float:
    """Calls a second, once warm."""
    for _ in range(3):
        run()
    wait()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        run()
        calls += 1
        if calls % 4 == 0:
            wait()  # else the queue runs ahead of the clock
    wait()
    return calls / (time.perf_counter() - start)


def rate(side: int) -> float:
    """TFLOP/s of a bfloat16 product."""
    x = torch.randn(side, side, device=PLACE, dtype=torch.bfloat16)
    return 2 * side**3 / 1e12 * per_second(lambda: x @ x)


@torch.inference_mode()
def infer(trunk: Any, inputs: tuple[torch.Tensor, ...], precision: Any) -> None:
    with autocast(PLACE, precision):
        trunk(*inputs)


def train(
    trunk: Any,
    optimizer: torch.optim.Optimizer,
    inputs: tuple[torch.Tensor, ...],
    precision: Any,
) -> None:
    """Forward, backward and AdamW; the loss is a stand-in, which costs next to nothing."""
    optimizer.zero_grad()
    with autocast(PLACE, precision):
        loss = trunk(*inputs).float().square().mean()
    loss.backward()
    optimizer.step()


def compiled(trunk: Any) -> Any:
    """The same network; one compilation serves all blocks."""
    trunk = deepcopy(trunk)
    for block in trunk.blocks:
        block.compile(backend=COMPILER)
    return trunk


def measure(trunk: Any, inputs: tuple[torch.Tensor, ...], limit: float) -> dict[str, Any]:
    """Rows per second of each way, and the share of `limit`; training counts three passes."""
    tokens = trunk(*(x[:1] for x in inputs)).shape[1]
    work = ROWS * flops(trunk, tokens) / 1e12
    found = {}
    for name, network, precision in (
        ("plain", trunk, "float32"),
        ("bfloat16", trunk, "bfloat16"),
        ("compiled", compiled(trunk), "bfloat16"),
    ):
        optimizer = torch.optim.AdamW(network.parameters(), 1e-6)
        for task, passes, run in (
            ("inference", 1, partial(infer, network, inputs, precision)),
            ("training", 3, partial(train, network, optimizer, inputs, precision)),
        ):
            calls = per_second(run)
            found[f"{task}, {name}"] = {
                "rows / s": calls * ROWS,
                "share of rate": calls * passes * work / limit,
            }
    return found


def main() -> None:
    if PLACE.type == "cpu" and not SMOKE:
        sys.exit(
            "no CUDA GPU found: this needs one with 40 GB and torch for CUDA; --smoke tries the "
            "script on the CPU"
        )
    limit = rate(256 if SMOKE else 8192)
    name = torch.cuda.get_device_name() if PLACE.type == "cuda" else "CPU"
    print(f"{name}: {limit:.1f} TFLOP/s of bfloat16 products")
    results: dict[str, Any] = {"GPU": name, "TFLOP/s": limit}
    for name, trunk, inputs in (
        ("image", image_trunk(**SIZES), image_inputs(ROWS)),
        ("spectrum", spectrum_trunk(**SIZES), spectrum_inputs(ROWS)),
    ):
        trunk = trunk.to(PLACE)
        results[name] = measure(trunk, tuple(x.to(PLACE) for x in inputs), limit)
        for way, row in results[name].items():
            print(f"{name:9} {way:20} {row['rows / s']:10.1f} rows/s  {row['share of rate']:.1%}")
    if not SMOKE:
        print(write_result("gpu", results))


if __name__ == "__main__":
    main()
