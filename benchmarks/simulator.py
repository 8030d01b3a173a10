"""Speed and memory of the synthetic survey; writes results/simulator.json.

Run on an idle machine: `OMP_NUM_THREADS=1 python benchmarks/simulator.py`.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from appulse.survey.synthetic.population import draw_population
from appulse.survey.synthetic.simulate import simulate, simulate_blocks
from record import write_result

PAIRS, REPEATS = 512, 5


def main() -> None:
    results = {
        "grid_cpu_s": in_fresh_process(grid_time),
        "pairs_per_cpu_s": {size: pairs_per_cpu_second(size) for size in (96, 152)},
        "pairs_per_wall_s_all_processes": {size: pairs_per_second(size) for size in (96, 152)},
        "peak_rss_mb": {n: in_fresh_process(peak_memory, n) for n in (512, 4096)},
    }
    print(results)
    print("written to", write_result("simulator", results))


def grid_time() -> float:
    """CPU-s before the first galaxy can be drawn: stellar grid and photometry table."""
    start = time.process_time()
    draw_population(1, np.random.default_rng(0))
    return round(time.process_time() - start, 2)


def pairs_per_cpu_second(size: int) -> dict[str, float]:
    """Median and range over repeats of `simulate` in this process, tables being built."""
    simulate(1, size=size)
    rates = []
    for repeat in range(REPEATS):
        start = time.process_time()
        simulate(PAIRS, seed=repeat, size=size)
        rates.append(PAIRS / (time.process_time() - start))
    return {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
    }


def pairs_per_second(size: int, n: int = 8192) -> float:
    """Wall-clock rate of all processes, their start included."""
    start = time.perf_counter()
    done = sum(len(block) for block in simulate_blocks(n, size=size))
    return round(done / (time.perf_counter() - start))


def peak_memory(n: int) -> float:
    """Peak resident MB of one process that streams `n` pairs of 152 px."""
    for _ in simulate_blocks(n, size=152, processes=1):
        pass
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def in_fresh_process(function: Callable[..., float], *arguments: Any) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


if __name__ == "__main__":
    main()
