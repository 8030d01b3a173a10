"""CPU seconds of `import appulse` and `appulse --help` in a fresh process, medians.

python benchmarks/startup.py
"""

import resource
import statistics
import subprocess
import sys

from record import write_result

COMMANDS = {
    "python": ["-c", "pass"],
    "import appulse": ["-c", "import appulse"],
    "appulse --help": ["-m", "appulse", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds = [{name: cpu_seconds(args) for name, args in COMMANDS.items()} for _ in range(12)][1:]
    result = {name: statistics.median(r[name] for r in rounds) for name in COMMANDS}
    print(result)
    print(write_result("startup", result))


if __name__ == "__main__":
    main()
