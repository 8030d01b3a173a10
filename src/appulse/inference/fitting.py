"""Training estimators on simulations or on a catalogue, with the shared training loop."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor

from ..counts import at_least_one, require_counts
from ..digest import digest
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder, save_tensors
from .ensemble import learn_noise
from .estimator import Estimator, EstimatorConfig
from .evidence import Evidence, Kind
from .prior import Prior

VALIDATION_DRAWS = 16  # times per validation row
LOSS = "validation_loss"  # its name beside the weights
FEWEST = 20  # rows to learn from, in all and of a subset of the evidence
NOISE_ROWS = 2048  # that the noise is fitted to after training, held-out ones first
# Where there are several blocks: share of the rows that see all their evidence, and of those that
# see one block; the others see a random part.
WHOLE, ALONE = 0.3, 0.6


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train."""

    steps: int | None = None  # None: by the number of rows, see `steps_for`
    passes: float | None = None  # through the rows, None: fewer the more rows there are
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average: float = 0.16  # share of the steps that the averaged weights reach back
    validation: float = 0.1  # share of the rows
    checks: int = 25  # how often validation looks for the best weights

    def __post_init__(self) -> None:
        require_counts(self, "batch_size", "checks")
        if self.steps is not None:
            at_least_one(self.steps, "steps")
        if not (self.average > 0 and 0 < self.validation < 1):
            raise ValueError(
                f"average is {self.average} and validation {self.validation}; expected a share "
                "above 0, and one between 0 and 1"
            )


@dataclass(frozen=True)
class PosteriorConfig:
    """What to fit and how."""

    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    members: int = 1  # of the ensemble; their average is the more cautious, the less they agree
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self.members, "members")


class Rows(NamedTuple):
    """Training material: u (B, D) and its evidence."""

    u: Float[Tensor, "B D"]
    evidence: Evidence
    pull: Float[Tensor, "B P D"] | None = None  # on the regression; None: it never saw them

    def take(self, rows: Int[Tensor, "N"] | Bool[Tensor, "B"]) -> "Rows":
        """Some of the rows, by number or by mask."""
        pull = None if self.pull is None else self.pull[rows]
        return Rows(self.u[rows], self.evidence[rows], pull)

    def to(self, device: torch.device) -> "Rows":
        """The rows on a device."""
        pull = None if self.pull is None else self.pull.to(device)
        return Rows(self.u.to(device), self.evidence.to(device), pull)


def training_rows(theta: Float[np.ndarray, "B D"], evidence: Evidence, prior: Prior) -> Rows:
    """Parameters as u with their evidence, checked.

    Raises:
        ValueError: If there are too few rows, they do not match, are not finite or outside the
            prior, or a parameter is constant.
    """
    values = torch.as_tensor(np.asarray(theta), dtype=torch.float64)
    if values.ndim != 2 or len(values) != len(evidence):
        raise ValueError(
            f"theta has shape {tuple(values.shape)} and the context {len(evidence)} rows; "
            "expected one row of parameters for each"
        )
    if len(values) < FEWEST:
        raise ValueError(f"there are {len(values)} rows; expected {FEWEST} or more to learn from")
    if not values.isfinite().all():
        bad = (~values.isfinite()).any(1)
        raise ValueError(
            f"{int(bad.sum())} rows of theta are NaN or infinite, first row "
            f"{int(bad.nonzero()[0])}; leave them out"
        )
    prior.check(values)
    for name, column in zip(prior.names, values.T, strict=True):
        if column.min() == column.max():
            raise ValueError(
                f"{name} is {column[0].item():g} in every row; leave constant parameters out"
            )
    return Rows(prior.normal(values).float(), evidence)


def new_estimators(config: PosteriorConfig, dim: int, kinds: dict[str, Kind]) -> list[Estimator]:
    """The untrained members of an ensemble; torch's random state stays as it was."""
    members = []
    for k in range(config.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + k)
            members.append(Estimator(dim, kinds, config.estimator))
    return members


def steps_for(rows: int, config: FitConfig) -> int:
    """Steps for so many rows: so many passes, or as the square root; 500 to 20,000."""
    if config.steps is not None:
        return config.steps
    steps = 60 * rows**0.5 if config.passes is None else config.passes * rows / config.batch_size
    return int(min(max(steps, 500), 20_000))


def dropout_for(rows: int, config: EstimatorConfig) -> float:
    """Of the context network, for so many rows: a tenth up to 1,000, nothing from 10,000 on."""
    if config.dropout is not None:
        return config.dropout
    return 0.1 * min(max(4 - math.log10(rows), 0.0), 1.0)


def fit_estimators(
    members: Sequence[Estimator],
    rows: Rows,
    config: PosteriorConfig,
    folder: Path,
    device: torch.device,
) -> list[float]:
    """Trains an ensemble in place, each member with other rows held out, and then its noise.

    Returns:
        The validation losses.
    """
    for member in members:
        member.held |= rows.evidence.held(FEWEST).to(member.held.device)
    count, rng = len(rows.u), torch.Generator().manual_seed(config.seed)
    rows = rows.take(torch.randperm(count, generator=rng)).to(device)
    held = _held_out(len(members), count, config.fit.validation).to(device)
    losses = [
        _fit_estimator(member, rows, held[k], config.fit, folder / f"member-{k}", config.seed + k)
        for k, member in enumerate(members)
    ]
    some = rows.take(torch.arange(min(NOISE_ROWS, count), device=device))
    learn_noise(members, *some, held[:, :NOISE_ROWS])
    return losses


def _held_out(members: int, rows: int, share: float) -> Bool[Tensor, "M B"]:
    """A share for each member, from the first row on in turns."""
    held = torch.zeros(members, rows, dtype=torch.bool)
    for k in range(members):
        held[k, (k + members * torch.arange(max(int(share * rows), 1))) % rows] = True
    return held


def _fit_estimator(
    estimator: Estimator,
    rows: Rows,
    held: Bool[Tensor, "B"],
    config: FitConfig,
    folder: Path,
    seed: int,
) -> float:
    """Trains in place and leaves the weights of the best validation loss, which it returns.

    The run folder makes it resumable; `best.safetensors` in it holds those weights so far.
    """
    estimator.network.drop(dropout_for(len(held), estimator.config))
    validation, training = rows.take(held), rows.take(~held)
    settings = _training_config(config, len(held), seed)
    best = BestWeights(folder, validation, seed)
    train(
        estimator,
        lambda model, batch: model.loss(batch.u, _some(batch.evidence), batch.pull),
        lambda step: _batches(training, settings.batch_size, seed, step),
        settings,
        RunFolder(folder, _description(estimator, rows, held, settings)),
        validate=best.look,
        device=str(held.device),
        title="posterior",
    )
    loss = best.restore(estimator)
    estimator.eval()
    return loss


def _training_config(config: FitConfig, rows: int, seed: int) -> TrainingConfig:
    steps = steps_for(rows, config)
    return TrainingConfig(
        steps=steps,
        batch_size=min(config.batch_size, rows),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=max(steps // 50, 1),
        ema=max(1 - 1 / (config.average * steps), 0.0),
        precision="float32",  # bfloat16 blurs narrow posteriors
        fused=True,
        seed=seed,
        log_every=100,
        validate_every=max(steps // config.checks, 1),
    )


def _description(
    estimator: Estimator, rows: Rows, held: Bool[Tensor, "B"], settings: TrainingConfig
) -> dict:
    return {
        "estimator": asdict(estimator.config),
        "training": asdict(settings),
        "rows": len(rows.u),
        "data": digest({"u": rows.u, "held": held, "present": rows.evidence.present}),
        "evidence": digest(rows.evidence.blocks),
        "start": digest(estimator.state_dict()),
    }


def _batches(rows: Rows, size: int, seed: int, step: int) -> Iterator[Rows]:
    """Shuffled batches from some step on, pass after pass; the last, short one is left out."""
    size = min(size, len(rows.u))
    per_pass = len(rows.u) // size
    while True:
        rng = torch.Generator().manual_seed(1_000_003 * seed + step // per_pass)
        order = torch.randperm(len(rows.u), generator=rng).to(rows.u.device)
        for i in range(step % per_pass, per_pass):
            yield rows.take(order[i * size : (i + 1) * size])
        step += per_pass - step % per_pass


def _some(evidence: Evidence) -> Evidence:
    """Rows with all evidence, with one block of it, or with a random part, never with nothing."""
    if evidence.present.shape[1] == 1:
        return evidence
    return evidence.keep(_subset(evidence.present))


def _subset(present: Bool[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
    draw = torch.rand(present.shape, device=present.device)
    first = torch.where(present, draw, 2.0).argmin(1, keepdim=True)
    one = torch.zeros_like(present).scatter(1, first, True) & present
    part = one | (present & (draw < 0.5))
    share = torch.rand(len(present), 1, device=present.device)
    return torch.where(share < WHOLE, present, torch.where(share < WHOLE + ALONE, one, part))


class BestWeights:
    """Keeps the weights of the lowest validation loss, on disk, so that a resumed run has them."""

    def __init__(self, folder: Path, rows: Rows, seed: int):
        self.path, self.rows, self.seed = folder / "best.safetensors", rows, seed
        self.loss = load_file(self.path)[LOSS].item() if self.path.exists() else float("inf")

    @torch.no_grad()
    def look(self, estimator: Estimator) -> dict[str, float]:
        """The validation loss, always on the same noise, times and masks."""
        u, evidence, pull = self.rows
        with torch.random.fork_rng([u.device] if u.is_cuda else []):
            torch.manual_seed(self.seed)
            loss = estimator.loss(u, _some(evidence), pull, VALIDATION_DRAWS).item()
        if loss < self.loss:
            self.loss = loss
            save_tensors(self.path, {**estimator.state_dict(), LOSS: torch.tensor(loss).double()})
        return {"validation": loss}

    def restore(self, estimator: Estimator) -> float:
        """Loads the best weights and returns their loss."""
        tensors = load_file(self.path)
        self.loss = tensors.pop(LOSS).item()
        estimator.load_state_dict(tensors)
        return self.loss
