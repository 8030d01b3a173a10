"""Rows per second into and out of a survey store, and the memory that takes.

Galaxies are random numbers (incompressible) at 96 pixels and on the DESI grid, 120 kB a row on
disk; what is read was just written, so it comes from the page cache.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey
from process import apart, peak
from record import write_result

BLOCK, BATCH, SIZE = 128, 512, 96
FIELDS = {"images": ("images",), "spectra": ("spectra",), "both": ("images", "spectra")}


def galaxies(n: int) -> Iterator[Survey]:
    """Blocks that differ in ids and positions; pixels are drawn once, to time the store alone."""
    rng = np.random.default_rng(0)
    images = Images.from_arrays(rng.standard_normal((BLOCK, 3, SIZE, SIZE), dtype=np.float32))
    noise = rng.standard_normal((BLOCK, 7781), dtype=np.float32)
    spectra = Spectra.from_arrays(noise, ivar=noise**2, mask=noise > 3)
    for start in range(0, n, BLOCK):
        ids = np.arange(start, start + BLOCK).astype(str)
        ra = rng.uniform(0, 360, BLOCK)
        dec = np.degrees(np.arcsin(rng.uniform(-1, 1, BLOCK)))
        yield Survey(
            replace(images, ids=ids, ra=ra, dec=dec),
            replace(spectra, ids=ids, ra=ra, dec=dec),
            {"redshift": rng.uniform(0, 1, BLOCK)},
        )


def rate(n: int, wall: float, cpu: float) -> dict[str, int]:
    return {
        "rows_per_second": round(n / (time.perf_counter() - wall)),
        "rows_per_cpu_second": round(n / (time.process_time() - cpu)),
    }


def write(path: str, n: int) -> dict[str, int]:
    list(galaxies(BLOCK))
    before, clocks = peak(), (time.perf_counter(), time.process_time())
    SurveyStore.create(path, galaxies(n))
    return {**rate(n, *clocks), "peak_mb": peak(), "peak_mb_before": before}


def read(path: str, n: int) -> dict[str, dict[str, int]]:
    store, results = SurveyStore.open(path), {}
    for shuffle in (False, True):
        for name, fields in FIELDS.items():
            clocks = time.perf_counter(), time.process_time()
            for _ in store.batches(None, BATCH, fields=fields, shuffle=shuffle):
                pass
            results[f"{'shuffled' if shuffle else 'sequential'} {name}"] = rate(n, *clocks)
    return {**results, "memory": {"peak_mb": peak()}}


def main() -> None:
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (4096, 16384):
            path = str(Path(folder) / f"{n}.lance")
            results[str(n)] = {"write": apart("write", path, n), "read": apart("read", path, n)}
            size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
            results[str(n)]["kb_per_row"] = round(size / n / 1000, 1)
    print(json.dumps(results, indent=2))
    print(write_result("store", results))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        task, path, n = sys.argv[1:]
        print(json.dumps({"write": write, "read": read}[task](path, int(n))))
