"""What an epoch of alignment costs once the locked trunks' tokens are kept, at published sizes.

    python benchmarks/alignment_cache.py

An epoch is one step on all pairs. Without the cache, it takes preparation, both trunks, both heads
and the step; with it, reading tokens, both heads and the step. CPU time, the median of three epochs
with the cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from appulse import pipeline
from appulse.align.model import Model
from appulse.align.pairs import Pairs, cache_pairs, pair_loss, take_pairs
from appulse.device import autocast
from appulse.recipes import paper
from record import write_result

CPU = torch.device("cpu")


def epoch(
    model: Model, optimizer: torch.optim.Optimizer, read: Callable[[], Pairs]
) -> tuple[float, float]:
    """CPU seconds and loss of one step on what `read` gives."""
    start = time.process_time()
    optimizer.zero_grad()
    with autocast(CPU):
        loss = pair_loss(model, read())
    loss.backward()
    optimizer.step()
    return time.process_time() - start, loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=427, help="60 % of which are pairs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recipe = paper()
    torch.manual_seed(0)
    model = Model(recipe.model)
    recipe.learning.apply(model)
    heads = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(heads, recipe.align.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        survey, kept = Path(folder) / "survey.lance", Path(folder) / "cache"
        store = pipeline.simulate(asked.galaxies, survey, size=152)
        start = time.process_time()
        cache = cache_pairs(kept, model, store, "encoder-train", "cpu", "auto")
        trunks = time.process_time() - start
        read = partial(take_pairs, cache, slice(None), CPU)
        epochs = [epoch(model, optimizer, read) for _ in range(4)][1:]
    cached = statistics.median(seconds for seconds, _ in epochs)
    result = {
        "pairs": len(cache),
        "CPU s of the trunks": round(trunks, 1),
        "CPU s of an epoch with the cache": round(cached, 2),
        "ratio of epochs": round((trunks + cached) / cached, 1),
        "losses": [round(loss, 4) for _, loss in epochs],
    }
    print(result)
    print(write_result("alignment_cache", result))


if __name__ == "__main__":
    main()
