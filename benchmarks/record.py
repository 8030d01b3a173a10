"""Results of benchmarks as JSON, with what it takes to repeat them."""

import json
from pathlib import Path
from typing import Any

import torch

from appulse.provenance import provenance

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, payload: dict[str, Any]) -> Path:
    """Writes `payload` and its circumstances to `results/<name>.json`; returns the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    about = {**provenance(), "threads": torch.get_num_threads()}
    path.write_text(json.dumps({**about, "results": payload}, indent=2) + "\n")
    return path
