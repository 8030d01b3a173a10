"""Each fast path against plain eager float32, torch's default settings and the same weights.

    python benchmarks/speed.py          # or with the name of one of its tasks

Published sizes, one thread, a task's variants in turn in one process; medians of CPU seconds, of
wall seconds, and of each round's ratio. The rate of products is this machine's own, and `limit` is
what a network of nothing but such products would gain at it.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appulse.align.head import AttentionPool, PoolConfig
from appulse.device import Precision, autocast, fast_products
from appulse.image.preprocess import prepare_picture
from appulse.spectrum.masked import MaskedModel
from process import apart
from published_size import (
    flops,
    image_inputs,
    image_trunk,
    images,
    masked_model,
    spectra,
    spectrum_inputs,
    spectrum_trunk,
)
from record import write_result

CPU = torch.device("cpu")
Variants = dict[str, Callable[[], Any]]  # the first is the plain one


def in_turn(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of seconds, and of how often the plain variant's seconds they are."""
    for run in variants.values():
        run()
    taken = [{name: seconds(run) for name, run in variants.items()} for _ in range(rounds)]
    plain = next(iter(variants))
    return {
        name: {
            "CPU s": statistics.median(t[name][0] for t in taken),
            "wall s": statistics.median(t[name][1] for t in taken),
            "times faster, CPU": statistics.median(t[plain][0] / t[name][0] for t in taken),
            "times faster, wall": statistics.median(t[plain][1] / t[name][1] for t in taken),
        }
        for name in variants
    }


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def rates() -> dict[str, float]:
    """GFLOP/s of a product of (1556, 768) and (768, 3072): MKL's, oneDNN's, and in bfloat16."""
    layer, x = nn.Linear(768, 3072), torch.randn(1556, 768)
    short = copy.deepcopy(layer).bfloat16()
    variants = {
        "plain": partial(no_grad, layer, x),
        "float32": partial(infer, layer, (x,), "float32"),
        "bfloat16": partial(no_grad, short, x.bfloat16()),
    }
    work = 2 * 1556 * 768 * 3072 / 1e9
    return {name: work / t["CPU s"] for name, t in in_turn(variants, 15).items()}


@torch.inference_mode()
def no_grad(network: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return network(*inputs)


@torch.inference_mode()
def infer(network: nn.Module, inputs: tuple[Tensor, ...], precision: Precision) -> Tensor:
    if precision == "float32":
        with fast_products(network):
            return no_grad(network, *inputs)
    with fast_products(network), autocast(CPU, precision):
        return network(*inputs).float()


def differences(plain: Tensor, fast: Tensor) -> dict[str, float]:
    """Largest error relative to the largest number, and the least cosine of two vectors."""
    cosine = F.cosine_similarity(plain.double(), fast.double(), dim=-1)
    error = (plain - fast).abs().max() / plain.abs().max()
    return {"error / largest": error.item(), "least cosine": cosine.min().item()}


def inference(trunk: Any, inputs: tuple[Tensor, ...], rounds: int = 3) -> dict[str, Any]:
    """Seconds are of a row; weights are rounded once, as for the many batches of a survey."""
    variants: Variants = {"plain": partial(no_grad, trunk, *inputs)}
    for precision in ("float32", "bfloat16"):
        variants[precision] = partial(infer, trunk, inputs, precision)
    with autocast(CPU, "bfloat16"):
        made = {name: run() for name, run in variants.items()}
        result = in_turn(variants, rounds)
    rows, tokens = made["plain"].shape[:2]
    for name, row in result.items():
        row |= {key: row[key] / rows for key in ("CPU s", "wall s")}
        row["GFLOP/s"] = flops(trunk, tokens) / row["CPU s"] / 1e9
        if name != "plain":
            row |= differences(made["plain"], made[name])
    return result


def training(rows: int = 1, rounds: int = 3) -> dict[str, Any]:
    """A step of masked modelling: forward, backward, clipping, AdamW. Seconds are of a row.

    The difference is that of the gradient at equal weights.
    """
    start, galaxies = masked_model(), spectra(rows)
    steps: dict[str, Step] = {
        "plain": Step(start, galaxies, None),
        "float32": Step(start, galaxies, "float32"),
        "bfloat16": Step(start, galaxies, "bfloat16"),
    }
    slopes = {name: step.gradient() for name, step in steps.items()}
    result = in_turn({name: step.update for name, step in steps.items()}, rounds)
    for name, row in result.items():
        row |= {key: row[key] / rows for key in ("CPU s", "wall s")}
        if name != "plain":
            row |= differences(slopes["plain"], slopes[name])
    return result


class Step:
    """Training as `training.loop` does it; without a precision, plain."""

    def __init__(self, start: MaskedModel, galaxies: Any, precision: Precision | None):
        self.model, self.galaxies, self.precision = copy.deepcopy(start), galaxies, precision
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-5, (0.9, 0.95))

    def update(self) -> None:
        """One step of the optimiser."""
        self.optimizer.zero_grad()
        self.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def backward(self) -> None:
        """Adds the gradient, the same patches hidden each time."""
        torch.manual_seed(0)
        if self.precision is None:
            self.model.loss(self.galaxies).backward()
            return
        with fast_products(self.model):
            with autocast(CPU, self.precision):
                loss = self.model.loss(self.galaxies)
            loss.backward()

    def gradient(self) -> Tensor:
        """All of it as one vector."""
        self.backward()
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])


def pooling(rows: int, tokens: int, width: int) -> dict[str, Any]:
    """What AstroCLIP's query gathers: by keys and values of all tokens, and without them."""
    torch.manual_seed(0)
    pool, x = AttentionPool(PoolConfig(), width).eval(), torch.randn(rows, tokens, width)
    query = pool.query.detach()

    def plain() -> Tensor:
        with torch.inference_mode():
            return pool.gather(query.expand(rows, 1, -1), x)[:, 0]

    def fast() -> Tensor:
        with torch.inference_mode(), fast_products(pool):
            return pool.gather.read(query, x)

    result = in_turn({"plain": plain, "float32": fast}, 11)
    result["float32"] |= differences(plain(), fast())
    return result


def colours(rows: int = 64) -> dict[str, Any]:
    """Red, green and blue of the centre: ours, and as AstroCLIP's collator makes it."""
    galaxies = images(rows)
    stored = np.ascontiguousarray(galaxies.flux.transpose(0, 3, 2, 1))  # (B, x, y, band), its files

    def plain() -> np.ndarray:
        pictures = np.stack([whole_picture(flux) for flux in stored]).transpose(0, 3, 2, 1)
        return np.ascontiguousarray(pictures[:, :, 4:148, 4:148])

    def fast() -> np.ndarray:
        return prepare_picture(galaxies, 144).flux.numpy()

    result = in_turn({"plain": plain, "float32": fast}, 31)
    result["float32"]["error / largest"] = float(np.abs(plain() - fast()).max())
    return result


def whole_picture(flux: np.ndarray) -> np.ndarray:
    """The viewer's stretch as legacysurvey/imagine and AstroCLIP write it, band by band."""
    planes = [(0, 2, 6.0), (1, 1, 3.4), (2, 0, 2.2)]
    intensity = np.zeros(flux.shape[:2], np.float32)
    for band, _, scale in planes:
        intensity = intensity + np.maximum(0, flux[:, :, band] * scale + 0.03)
    intensity /= len(planes)
    stretched = np.arcsinh(20 * intensity) / np.sqrt(20)
    intensity += (intensity == 0.0) * 1e-6
    rgb = np.zeros(flux.shape, np.float32)
    for band, plane, scale in planes:
        rgb[:, :, plane] = (flux[:, :, band] * scale + 0.03) * stretched / intensity
    return np.clip(rgb, 0, 1)


def limits(result: dict[str, Any], rate: dict[str, float]) -> None:
    """Adds to each network what a rate alone would gain."""
    for name in ("float32", "bfloat16"):
        best = max(rate[name], rate["plain"]) / result["plain"]["GFLOP/s"]
        result[name]["limit"] = best
        result[name]["share of rate"] = result[name]["GFLOP/s"] / rate[name]


def show(name: str, result: dict[str, Any]) -> None:
    print(name, flush=True)
    for variant, row in result.items():
        print(f"  {variant:9}", {key: float(f"{value:.4g}") for key, value in row.items()})


TASKS: dict[str, Callable[[], dict[str, Any]]] = {
    "pooling, 8 images": lambda: pooling(8, 144, 1024),
    "pooling, 64 images": lambda: pooling(64, 144, 1024),
    "pooling, 8 spectra": lambda: pooling(8, 778, 768),
    "pooling, 28 spectra": lambda: pooling(28, 778, 768),
    "RGB and crop": colours,
    "spectrum encoder, inference": lambda: inference(spectrum_trunk(), spectrum_inputs(2)),
    "image encoder, inference": lambda: inference(image_trunk(), image_inputs(2)),
    "spectrum encoder, training": training,
}


def measure(name: str) -> dict[str, Any]:
    """One task, with the rate of products at that time where it is one of a network's."""
    torch.set_num_threads(1)
    result = TASKS[name]()
    if "GFLOP/s" in result["plain"]:
        rate = rates()
        limits(result, rate)
        result["GFLOP/s of products"] = rate
    return result


def main() -> None:
    results = {}
    for name in TASKS:
        results[name] = apart(name)
        show(name, results[name])
    print(write_result("speed", results))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(sys.argv[1])))
