"""A full evaluation of the demo's model: its scores, and how long it takes.

    python benchmarks/evaluate.py demo OUT --processes 2

Some hours. OUT is to be new: rows of another evaluation would cost nothing. One that was cut short
goes on, and its time, noted every few seconds, counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from appulse.evaluate.results import Result, read_results
from appulse.files import atomic_path
from record import write_result

COLUMNS = ("method", "modality", "target", "metric", "value", "low", "high")
COUNTS = ("n_train", "n_test", "seeds", "rival")
EVERY = 5  # seconds; so often the time is noted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="what `make demo` made")
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    command = ["evaluate", str(asked.demo / "align"), "--survey", str(asked.demo / "survey.lance")]
    command += ["--out", str(asked.out), "--run.spectrum", str(asked.demo / "spectrum")]
    command += ["--processes", str(asked.processes)]
    spent = timed([sys.executable, "-m", "appulse", *command], asked.out / "spent.json")
    results = {
        "command": f"appulse {' '.join(command)}",
        **spent,
        "columns": " | ".join((*COLUMNS, *COUNTS)),
        "scores": [told(result) for result in read_results(asked.out / "results.json")],
    }
    print(spent, write_result("evaluate", results))


def timed(command: Sequence[str], note: Path) -> dict[str, int]:
    """Runs a command; what it took with what is noted of runs before."""
    note.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(note.read_text()) if note.exists() else {"wall s": 0, "starts": 0}
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            wall = before["wall s"] + round(time.perf_counter() - start)
            spent = {"wall s": wall, "starts": before["starts"] + 1}
            with atomic_path(note) as temporary:
                temporary.write_text(json.dumps(spent))
            time.sleep(EVERY)
    if process.returncode:
        sys.exit(process.returncode)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # kB
    return {**spent, "peak MB of the largest process": largest // 1024}


def told(result: Result) -> str:
    """A score in a line."""
    words = [getattr(result, name) for name in (*COLUMNS, *COUNTS)]
    return " | ".join(f"{w:.4f}" if isinstance(w, float) else str(w) for w in words)


if __name__ == "__main__":
    main()
