"""Where a result comes from: code, versions, machine, time."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("appulse", "torch", "numpy", "scikit-learn", "pylance")
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "neon", "asimd")


def provenance() -> dict[str, str]:
    """What it takes to repeat a result, by name."""
    model, flags = _processor()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit() or "not a git checkout",
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{model}, {os.cpu_count()} cores, {' '.join(flags)}",
    }


def commit() -> str:
    """Commit of the source tree, ending in "-dirty" if files differ; "" if there is none."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed; a repository around it is somebody else's
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> tuple[str, list[str]]:
    """Model, and those of its flags that decide the speed of matrix products."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), []
    pairs = (line.partition(":") for line in info.read_text().splitlines())
    entries = {key.strip(): value.strip() for key, _, value in pairs}
    present = entries.get("flags", entries.get("Features", "")).split()
    model = entries.get("model name", platform.machine())
    return model, [flag for flag in TELLING_FLAGS if flag in present]
