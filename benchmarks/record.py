"""Results of benchmarks as JSON, with what it takes to repeat them."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "neon", "asimd")


def write_result(name: str, payload: dict[str, Any]) -> Path:
    """Writes `payload` and its circumstances to `results/<name>.json`; returns the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**circumstances(), "results": payload}, indent=2) + "\n")
    return path


def circumstances() -> dict[str, Any]:
    """Machine, CPU flags, threads, commit and date of this run."""
    model, flags = _processor()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": model,
        "cpu_flags": flags,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _processor() -> tuple[str, list[str]]:
    """Model and those flags that decide the speed of matrix products, from /proc/cpuinfo."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor(), []
    pairs = [line.partition(":") for line in info.read_text().splitlines()]
    entries = {key.strip(): value.strip() for key, _, value in pairs}
    present = entries.get("flags", entries.get("Features", "")).split()
    model = entries.get("model name", platform.machine())
    return model, [flag for flag in TELLING_FLAGS if flag in present]


def _commit() -> str:
    """Commit of the working tree, with "+changes" when it holds more than that."""
    tree = Path(__file__).parent
    head = _git("rev-parse", "HEAD", at=tree)
    return head + "+changes" if head and _git("status", "--porcelain", at=tree) else head


def _git(*command: str, at: Path) -> str:
    done = subprocess.run(["git", *command], cwd=at, capture_output=True, text=True, check=False)
    return done.stdout.strip()
