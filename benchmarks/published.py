"""Loading a published checkpoint at its full size: time and memory against reading the file.

    python benchmarks/published.py

Writes a stand-in of 370,798,358 random weights, then reads and loads it in turn, each in a process
of its own, and converts it.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from record import write_result

LAYOUT = Path(__file__).parents[1] / "tests" / "parity" / "golden" / "published_layout.json"
SCRIPTS = {
    "import": "import torch, appulse.align.load",
    "read": "import torch, appulse.align.load; open(path, 'rb').read()",
    "load": "import appulse; appulse.load(path)",
    "convert": "from appulse.queries import convert; convert(path, Path(path).parent / out)",
    "load converted": "import appulse; appulse.load(Path(path).parent / 'run-0')",
}
MEASURED = """
import sys, time
from pathlib import Path
path, out = sys.argv[1:3]
start, cpu = time.perf_counter(), time.process_time()
{script}
print(time.perf_counter() - start, time.process_time() - cpu,
      1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))
"""


def write_stand_in(path: Path) -> None:
    shapes = json.loads(LAYOUT.read_text())["AstroClipModel.state_dict"]
    state = {name: torch.randn(shape) / 30 for name, shape in shapes.items()}
    torch.save({"state_dict": state, "hyper_parameters": {}}, path)


def measure(script: str, path: Path, out: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, peak bytes."""
    code = MEASURED.format(script=script)
    command = [sys.executable, "-c", code, str(path), out]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wall, cpu, peak = map(float, output.split())
    return wall, cpu, peak


def main(rounds: int = 5) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "astroclip.ckpt"
        write_stand_in(path)
        runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SCRIPTS}
        for i in range(rounds):
            for name, script in SCRIPTS.items():
                runs[name].append(measure(script, path, f"run-{i}"))
        size = path.stat().st_size
    results = {
        name: dict(
            zip(
                ("wall s", "CPU s", "peak bytes"),
                map(statistics.median, zip(*rows, strict=True)),
                strict=True,
            )
        )
        for name, rows in runs.items()
    }
    base = results["import"]
    for row in results.values():
        row["peak beyond import / file"] = (row["peak bytes"] - base["peak bytes"]) / size
    results["file"] = {"bytes": float(size)}
    for clock in ("wall s", "CPU s"):
        read, load = (results[name][clock] - base[clock] for name in ("read", "load"))
        results["file"][f"load / read, {clock.split()[0]}"] = load / read
    for name, row in results.items():
        print(name, {key: round(value, 3) for key, value in row.items()})
    print(write_result("published", results))


if __name__ == "__main__":
    main()
