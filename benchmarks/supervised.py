"""The supervised baselines by the number of labels, and whether more training would help.

    python benchmarks/supervised.py demo/survey.lance WORK --seeds 0 1 2 --counts 100 300 1000 3000

ResNet on images and Conv+Att on spectra learn the properties from so many galaxies of encoder- and
head-train, and from all; scores are of the test part. One more run each, from all, takes twice the
steps: the baselines have converged if its validation loss is hardly better. Runs in WORK that are
finished are not done again.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from appulse.evaluate.protocol import Predictions, score
from appulse.evaluate.supervised import SupervisedConfig, conv_att, resnet, train_supervised
from appulse.survey.store import SurveyStore
from appulse.survey.survey import PROPERTIES, label_columns
from appulse.training.run import read_metrics
from record import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    store = SurveyStore.open(asked.survey)
    rows = np.concatenate([store.rows("encoder-train"), store.rows("head-train")])
    columns = label_columns(store.names)
    truth = store.columns([columns[name] for name in PROPERTIES], "test")
    truth = {name: truth[columns[name]] for name in PROPERTIES}
    result: dict[str, Any] = {"survey": store.identity, "runs": []}
    for seed in asked.seeds:
        order = np.random.default_rng(seed).permutation(rows)
        for count in [*asked.counts, len(rows)]:
            for name, config in networks(count, seed).items():
                out = asked.work / f"{name}-{count}-{seed}"
                made = learned(store, np.sort(order[:count]), config, out)
                result["runs"].append(described(made, truth, out, seed))
    for name, config in networks(len(rows), asked.seeds[0]).items():
        out = asked.work / f"{name}-twice"
        training = replace(config.training, steps=2 * config.training.steps, patience=40)
        made = learned(store, rows, replace(config, training=training), out)
        result[f"{name}, twice the steps"] = described(made, truth, out, asked.seeds[0])
    print(write_result("supervised", result))


def networks(labels: int, seed: int) -> dict[str, SupervisedConfig]:
    return {"resnet": resnet(labels, seed), "conv_att": conv_att(labels, seed)}


def learned(
    store: SurveyStore, rows: np.ndarray, config: SupervisedConfig, out: Path
) -> Predictions:
    return train_supervised(store, rows, config, out, labels=PROPERTIES, device="cpu")


def described(
    made: Predictions, truth: dict[str, np.ndarray], out: Path, seed: int
) -> dict[str, Any]:
    """Scores on test; the best validation loss, the mean squared error in units of variance."""
    lines = [line for line in read_metrics(out / "properties") if "validation_loss" in line]
    best = min(lines, key=lambda line: line["validation_loss"])
    scores = score([made], truth)
    r2 = {r.target: [round(x, 4) for x in (r.value, r.low, r.high)] for r in scores
          if r.metric == "R²"}  # fmt: skip
    more = {r.metric: round(r.value, 5) for r in scores if r.target == "redshift"}
    report = {
        "method": made.method,
        "galaxies": made.n_train,
        "seed": seed,
        "R²": r2,
        "mean R²": round(float(np.mean([value[0] for value in r2.values()])), 4),
        "redshift": more,
        "best validation loss": round(best["validation_loss"], 4),
        "at step": best["step"],
    }
    print(report)
    return report


if __name__ == "__main__":
    main()
