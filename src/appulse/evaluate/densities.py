"""Posteriors scored: log density of the truth and CRPS; ours beside a neural spline flow.

Shapes: B galaxies, F features, P parameters.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from ..digest import digest
from ..inference.calibration import crps
from ..survey.survey import PROPERTIES, label_columns
from ..tasks.observed import Observed, observed
from ..tasks.properties import GalaxyPosterior
from ..training.run import load_weights
from .measured import magnitudes
from .posteriors import evidence_subsets
from .protocol import CRPS, Predictions
from .results import Modality
from .rows import Method
from .spline_flow import SplinePosterior
from .study import Study

DRAWS = 50  # of each galaxy's posterior, for the CRPS
FLOOR = -1000.0  # nats; a density of 0 costs no more
CHUNK = 250  # galaxies sampled at a time


def densities(study: Study, posteriors: Sequence[Path], galaxies: int) -> list[Method]:
    """Ours and spline flows, scored on the first so many test galaxies that they can be.

    Those whose labels, and whose evidence of the kind, are all known.

    Args:
        study: The galaxies.
        posteriors: Folders of `appulse posterior`, one for each seed.
        galaxies: How many to score.
    """
    weights = [digest(load_weights(path)) for path in posteriors]
    methods = [
        Method(
            "appulse flow matching",
            lambda seed: _ours(study, posteriors[seed], galaxies, seed),
            {"posteriors": weights, "galaxies": galaxies},
            range(len(posteriors)),
        )
    ]
    names = [n for n in PROPERTIES if n in study.labels["head-train"]]
    inputs: dict[tuple[str, Modality], Callable[[], Mapping[str, np.ndarray]]] = {
        ("spline flow on embeddings", "image"): lambda: _evidence(study, 0),
        ("spline flow on embeddings", "spectrum"): lambda: _evidence(study, 1),
        ("spline flow on embeddings", "both"): lambda: _evidence(study, 0, 1),
        ("spline flow on apertures", "image"): lambda: magnitudes(study.measured, slice(None)),
    }
    for (name, modality), features in inputs.items():
        run = partial(_spline, study, name, modality, features, names, galaxies)
        settings = {"model": study.model_hash, "galaxies": galaxies}
        methods.append(Method(f"{name} {modality}", run, settings, study.seeds))
    return methods


def evidence_of(study: Study, asked: GalaxyPosterior) -> tuple[Observed, np.ndarray]:
    """Embeddings of the test galaxies, and their labels that a posterior is of, (B, P)."""
    columns = label_columns(study.sample.store.names)
    named = {column: name for name, column in columns.items()}
    targets = asked.posterior.about["targets"].values()
    theta = np.stack([study.labels["test"][named[column]] for column in targets], axis=1)
    return observed(*study.embedded["test"]), theta


def _ours(study: Study, path: Path, galaxies: int, seed: int) -> list[Predictions]:
    asked = GalaxyPosterior.load(path, study.device)
    evidence, theta = evidence_of(study, asked)
    made = []
    for title, blocks in evidence_subsets(evidence).items():
        modality = cast(Modality, title)
        start = time.process_time()
        rows = _known(theta, *blocks.values())[:galaxies]
        log_density = asked.posterior.log_prob(theta[rows], _some(blocks, rows))
        error = [
            crps(asked.posterior.sample(_some(blocks, i), DRAWS, seed=seed), theta[i])
            for i in np.array_split(rows, -(-len(rows) // CHUNK))
        ]
        values = {"posterior": log_density} | {
            f"{name}{CRPS}": e
            for name, e in zip(asked.posterior.prior.names, np.concatenate(error).T, strict=True)
        }
        values = _placed(values, rows, len(theta))
        seconds, n_train = time.process_time() - start, asked.posterior.about["galaxies"]
        made.append(
            Predictions(
                "appulse, flow matching", modality, values, n_train, seconds=seconds, seed=seed
            )
        )
    return made


def _known(*columns: Float[np.ndarray, "B _"]) -> np.ndarray:
    """Rows of which all numbers are known."""
    return np.flatnonzero(np.isfinite(np.hstack(columns)).all(axis=1))


def _some(blocks: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: block[rows] for name, block in blocks.items()}


def _spline(
    study: Study,
    name: str,
    modality: Modality,
    features: Callable[[], Mapping[str, np.ndarray]],
    names: Sequence[str],
    galaxies: int,
    seed: int,
) -> list[Predictions]:
    x, start = features(), time.process_time()
    theta = {p: np.stack([c[n] for n in names], axis=1) for p, c in study.labels.items()}
    known = {part: _known(t, x[part]) for part, t in theta.items()}
    train, validation = (
        (x[part][known[part]], theta[part][known[part]]) for part in ("head-train", "validation")
    )
    fitted = SplinePosterior.fit(*train, *validation, seed=seed)
    rows = known["test"][:galaxies]
    truth, seen = theta["test"][rows], x["test"][rows]
    error = crps(fitted.sample(seen, DRAWS, seed), truth)
    values = {"posterior": fitted.log_prob(truth, seen)} | {
        f"{n}{CRPS}": e for n, e in zip(names, error.T, strict=True)
    }
    values = _placed(values, rows, len(theta["test"]))
    seconds, n_train = time.process_time() - start, len(train[0])
    return [Predictions(name, modality, values, n_train, True, seconds, seed)]


def _placed(
    values: Mapping[str, Float[np.ndarray, "_"]], rows: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """Among all test galaxies, NaN where not asked.

    Raises:
        ValueError: If a galaxy that was asked has NaN.
    """
    placed = {}
    for name, some in values.items():
        if np.isnan(some).any():
            raise ValueError(
                f"{name} is NaN for {np.isnan(some).sum()} of {len(some)} galaxies, first row "
                f"{rows[np.isnan(some)][0]} of the test part; expected a number for each: look at "
                "its evidence"
            )
        placed[name] = np.full(n, np.nan)
        placed[name][rows] = np.maximum(some, FLOOR)
    return placed


def _evidence(study: Study, *sides: int) -> dict[str, np.ndarray]:
    """What the model says of images (0), spectra (1) or both."""
    pairs = study.embedded.items()
    return {part: np.hstack([pair[side].evidence for side in sides]) for part, pair in pairs}
