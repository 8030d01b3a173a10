"""What `make demo` takes and reaches: wall time, CPU time, memory, headline scores.

    python benchmarks/demo.py [folder]

Runs the whole demo in a new folder (a temporary one if none is given).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import write_result

HEADLINES = {
    ("appulse", "image → spectrum", "partner", "top-1"),
    ("appulse", "image → spectrum", "partner", "top-10"),
    ("synthetic photometry", "image → spectrum", "partner", "top-1"),
    ("synthetic photometry", "image → spectrum", "partner", "top-10"),
    ("appulse", "spectrum → image", "partner", "top-10"),
    ("appulse, k-NN", "image", "redshift", "R²"),
    ("appulse, MLP probe", "image", "redshift", "R²"),
    ("g, r, z, boosting", "image", "redshift", "R²"),
    ("apertures, boosting", "image", "redshift", "R²"),
    ("apertures, MLP probe", "image", "redshift", "R²"),
    ("appulse, redshift coordinate", "spectrum", "redshift", "within .003"),
    ("template cross-correlation", "spectrum", "redshift", "within .003"),
}


def run(out: Path) -> dict[str, float]:
    """Runs the demo; peak memory is that of all its processes together, sampled."""
    command = [sys.executable, "-m", "appulse", "demo", "--out", str(out)]
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        peak = max(peak, memory_of_group(process.pid))
        time.sleep(0.2)
    if process.returncode:
        sys.exit(f"the demo failed with status {process.returncode}")
    return {"wall s": time.monotonic() - start, "peak memory GB": peak / 1e9}


def memory_of_group(pid: int) -> int:
    """Resident bytes, shared pages counted once (PSS), of a process and its descendants."""
    total = 0
    for child in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [d for child in map(int, listed) for d in (child, *children(child))]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "demo"
    cost = run(out)
    rows = json.loads((out / "results.json").read_text())
    keys = ("method", "modality", "target", "metric")
    scores = [row for row in rows if tuple(row[key] for key in keys) in HEADLINES]
    for row in scores:
        name = ", ".join(row[key] for key in keys)
        print(f"{name}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    print(cost)
    print(write_result("demo", {"cost": cost, "scores": scores}))


if __name__ == "__main__":
    main()
