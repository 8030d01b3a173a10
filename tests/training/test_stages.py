"""Stages of the pipeline on two ranks."""

import pickle
import signal
import time
from dataclasses import replace

from appulse.training.run import load_weights, read_metrics

TORCHRUN = """
import pickle, runpy, sys
from pathlib import Path
from appulse import recipes

recipe = pickle.loads(Path(sys.argv.pop(1)).read_bytes())
recipes.tiny = lambda: recipe
runpy.run_module("appulse", run_name="__main__")
"""


def test_two_ranks_pretrain_and_go_on_after_ctrl_c(run, torchrun, tmp_path):
    """As `torchrun --nproc-per-node=2 -m appulse pretrain image`, with a smaller recipe."""
    training = replace(run.recipe.pretrain_image, steps=30, log_every=1)
    (tmp_path / "recipe").write_bytes(pickle.dumps(replace(run.recipe, pretrain_image=training)))
    out = tmp_path / "image"
    arguments = (tmp_path / "recipe", "pretrain", "image", "--device", "cpu")
    process = torchrun(TORCHRUN, *arguments, "--survey", run.survey, "--out", out)
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert errors.count("interrupted; run the same command again to go on") == 2
    assert (out / "resume.safetensors").exists()
    assert not (out / "weights.safetensors").exists()

    process = torchrun(TORCHRUN, *arguments, "--survey", run.survey, "--out", out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    steps = [line["step"] for line in read_metrics(out) if "loss" in line]
    assert steps == list(range(1, 31))
    assert load_weights(out)["step"] == 30


IN_SHARDS = """
import pickle, sys
from dataclasses import replace
from pathlib import Path
from appulse.pipeline import align, pretrain_image, pretrain_spectrum

recipe = pickle.loads(Path(sys.argv[1]).read_bytes())
survey, out = Path(sys.argv[2]), Path(sys.argv[3])

def briefly(training, sharding, speed):
    rate = speed * training.learning_rate
    brief = {"steps": 4, "validate_every": 4, "precision": "float32"}
    return replace(training, sharding=sharding, learning_rate=rate, **brief)

for kind, *how in (("whole", "replicate", 1), ("parts", "shard", 1), ("start", "replicate", 0)):
    stages = ("pretrain_spectrum", "pretrain_image", "align")
    brief = replace(recipe, **{s: briefly(getattr(recipe, s), *how) for s in stages})
    pretrain_spectrum(survey, out / kind / "spectrum", brief, device="cpu")
    pretrain_image(survey, out / kind / "image", brief, device="cpu")
    align(survey, out / "whole" / "spectrum", out / kind / "align", brief, device="cpu")
"""


def test_every_stage_trains_in_shards_as_with_whole_models(run, torchrun, tmp_path):
    """Up to rounding, which AdamW and KoLeo make much of where a gradient is nearly 0."""
    (tmp_path / "recipe").write_bytes(pickle.dumps(run.recipe))
    process = torchrun(IN_SHARDS, tmp_path / "recipe", run.survey, tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for stage in ("spectrum", "image", "align"):
        kinds = ("whole", "parts", "start")
        whole, parts, start = (load_weights(tmp_path / kind / stage) for kind in kinds)
        assert list(whole) == list(parts)
        for name, tensor in whole.items():
            apart, moved = ((tensor - other[name]).double().norm() for other in (parts, start))
            assert apart <= 0.1 * moved, (stage, name)
