"""Writes survey.json: what survey v2 is, with the hash of its arrays.

    OMP_NUM_THREADS=1 python benchmarks/survey.py

Simulates 120,000 pairs, block by block, and keeps none: about six minutes on one core.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appulse.provenance import provenance
from appulse.survey.survey import Survey
from appulse.survey.synthetic.block import BLOCK
from appulse.survey.synthetic.frozen import FROZEN, Frozen, fingerprint, statistics
from appulse.survey.synthetic.labels import RELEASE

PATH = Path(__file__).parent / "survey.json"


def main() -> None:
    record = {
        **provenance(),
        "version": RELEASE,
        "surveys": {name: describe(survey) for name, survey in FROZEN.items()},
    }
    PATH.write_text(json.dumps(record, indent=2) + "\n")
    print(PATH.read_text())


def describe(survey: Frozen) -> dict[str, Any]:
    """Arguments, hashes of the whole and of the first block, and the first block's statistics."""
    first = next(iter(survey.blocks(n=BLOCK)))
    start = time.process_time()
    whole = fingerprint(counted(survey.blocks()))
    return {
        "n": survey.n,
        "seed": survey.seed,
        "size": survey.size,
        "sha256": whole,
        "first block sha256": fingerprint([first]),
        "first block": statistics(first),
        "cpu_s": round(time.process_time() - start),
    }


def counted(blocks: Iterator[Survey]) -> Iterator[Survey]:
    for k, block in enumerate(blocks):
        if k % 100 == 0:
            print(k * BLOCK, flush=True)
        yield block


if __name__ == "__main__":
    main()
