"""A full evaluation of the demo's model in one go: its scores, and what it takes.

    python benchmarks/evaluate.py demo OUT --processes 2

OUT must be new: rows that are there already would cost nothing. Some hours.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from appulse.evaluate.results import Result, read_results
from record import write_result

COLUMNS = ("method", "modality", "target", "metric", "value", "low", "high")
COUNTS = ("n_train", "n_test", "seeds", "rival")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="what `make demo` made")
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.out.exists():
        sys.exit(f"{asked.out} is there; give a folder that is not")
    command = ["evaluate", str(asked.demo / "align"), "--survey", str(asked.demo / "survey.lance")]
    command += ["--out", str(asked.out), "--run.spectrum", str(asked.demo / "spectrum")]
    command += ["--processes", str(asked.processes)]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "appulse", *command], check=True)
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    results = {
        "command": f"appulse {' '.join(command)}",
        "wall s": round(wall),
        "CPU s": round(used.ru_utime + used.ru_stime),
        "peak MB of the largest process": round(used.ru_maxrss / 1024),
        "columns": " | ".join((*COLUMNS, *COUNTS)),
        "scores": [told(result) for result in read_results(asked.out / "results.json")],
    }
    print({name: results[name] for name in ("wall s", "CPU s", "peak MB of the largest process")})
    print(write_result("evaluate", results))


def told(result: Result) -> str:
    """A score in a line."""
    words = [getattr(result, name) for name in (*COLUMNS, *COUNTS)]
    return " | ".join(f"{w:.4f}" if isinstance(w, float) else str(w) for w in words)


if __name__ == "__main__":
    main()
