"""Parts of a benchmark in processes of their own, whose peak memory is their own too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def apart(*arguments: Any) -> dict[str, Any]:
    """What this script prints last, as JSON, if called with these arguments."""
    command = [sys.executable, sys.argv[0], *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(*arguments, result, flush=True)
    return result


def peak() -> int:
    """Largest resident memory of this process so far, MB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
