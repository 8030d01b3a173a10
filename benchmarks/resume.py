"""How often a run that is killed ends with the weights of one that was left alone.

A small masked model learns from noise. Each of 20 runs gets `kill -9` at a random moment, between
steps, in one or while a checkpoint is written; then it is let go on to its end.

python benchmarks/resume.py
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from appulse.training.run import read_metrics
from record import write_result

RUNS, STEPS = 20, 60


def train(folder: str) -> None:
    import numpy as np
    import torch

    from appulse.spectrum.masked import MaskedModel, MaskingConfig
    from appulse.spectrum.transformer import SpectrumTransformerConfig
    from appulse.survey.batches import BatchOrder
    from appulse.survey.spectra import Spectra
    from appulse.training import loop
    from appulse.training.run import RunFolder

    noise = np.random.default_rng(0).normal(size=(64, 7781))
    config = loop.TrainingConfig(
        steps=STEPS, batch_size=16, ema=0.9, log_every=1, save_every=0.0, precision="float32"
    )
    torch.manual_seed(0)
    trunk = SpectrumTransformerConfig(patch=160, stride=160, width=64, depth=2, heads=2)
    loop.train(
        MaskedModel(trunk, MaskingConfig(chunks=6, width=3)),
        lambda model, rows: model.loss(Spectra.from_arrays(noise[rows])),
        lambda step: iter(BatchOrder(np.arange(64), 16, start=step, epochs=None)),
        config,
        RunFolder(folder, {}),
        device="cpu",
    )


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, __file__, str(folder)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def finish(folder: Path) -> None:
    if start(folder).wait():
        raise RuntimeError(f"the run in {folder} failed")


def kill(folder: Path, step: int, after: float) -> int:
    """Kills a run some seconds after this step; the last step that it logged."""
    process = start(folder)
    while logged(folder) < step:
        time.sleep(0.002)
    time.sleep(after)
    process.kill()
    if process.wait() == 0:
        raise RuntimeError(f"the run in {folder} ended before it was killed")
    return logged(folder)


def logged(folder: Path) -> int:
    lines = read_metrics(folder)
    return int(lines[-1]["step"]) if lines else 0


def main() -> None:
    rng, steps, equal_weights, equal_metrics = random.Random(0), [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        finish(whole)
        for number in range(RUNS):
            folder = Path(name) / str(number)
            steps.append(kill(folder, rng.randint(1, STEPS - 10), rng.uniform(0, 0.05)))
            finish(folder)
            weights, metrics = "weights.safetensors", "metrics.jsonl"
            equal_weights += (folder / weights).read_bytes() == (whole / weights).read_bytes()
            equal_metrics += (folder / metrics).read_bytes() == (whole / metrics).read_bytes()
            print(f"killed at step {steps[-1]}; {equal_weights} of {number + 1} with equal weights")
    result = {
        "runs killed": RUNS,
        "steps": STEPS,
        "killed at step": steps,
        "equal weights": equal_weights,
        "equal metrics": equal_metrics,
    }
    print(write_result("resume", result))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(sys.argv[1])
    else:
        main()
