"""The training loop: one for every objective."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..counts import require_counts
from ..device import Precision, autocast, fast_products, resolve_device
from ..progress import bar
from . import distribution
from .distribution import Objective, anywhere, parallel, postponed, rank, ranks, total, whole
from .early_stopping import EarlyStopping
from .groups import Group, matrices_decay, merged
from .interrupts import noted_interrupts
from .run import RunFolder, load_weights
from .schedules import CosineSchedule, warmup_cosine

M = TypeVar("M", bound=nn.Module)
Batches = Callable[[int], Iterable[Any]]
RANK_SEED = 15_485_863  # a prime, so that no two ranks draw the same at any near step


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and how precisely to train."""

    steps: int
    batch_size: int  # rows of a step, over all ranks
    accumulate: int = 1  # pieces in which each rank reads its rows of a step
    learning_rate: float = 1e-3
    floor: float = 0.0  # the last learning rate, as a part of the largest
    weight_decay: float = 0.1
    final_weight_decay: float | None = None  # half a cosine leads there; None stays
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    warmup: int = 30  # steps
    rest: int = 0  # steps in which parameters of a last layer stay
    clip: float = 1.0  # largest norm of the gradient
    ema: float | None = None  # decay per step; the averaged weights are the result
    precision: Precision = "auto"
    sharding: distribution.Sharding = "replicate"
    fused: bool = False  # AdamW in one kernel of torch's
    seed: int = 0
    log_every: int = 10  # steps
    validate_every: int = 100  # steps
    patience: int | None = None  # validations without a better one that end it; see EarlyStopping
    save_every: float = field(default=60.0, compare=False)  # seconds

    def __post_init__(self) -> None:
        require_counts(self, "steps", "batch_size", "accumulate", "log_every", "validate_every")

    def order(self, step: int) -> dict[str, Any]:
        """What a `BatchOrder` needs: from a step on, without end, this rank's share."""
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "start": step,
            "epochs": None,
            "drop_last": True,
            "rank": rank(),
            "ranks": ranks(),
            "pieces": self.accumulate,
        }


def train(
    model: M,
    loss: Callable[[M, Any], Tensor],
    batches: Batches,
    config: TrainingConfig,
    run: RunFolder,
    *,
    validate: Callable[[M], dict[str, float]] | None = None,
    groups: Callable[[M], list[Group]] | None = None,
    after_step: Callable[[M], None] | None = None,
    device: str = "auto",
    title: str = "training",
) -> M:
    """Trains `model` in place, or goes on where the run folder's last checkpoint stopped.

    Every random number follows from the seed, the step and the rank, so an interrupted run ends
    with the weights of an uninterrupted one, bit for bit at an equal number of threads and ranks.
    Ctrl-C, on any rank, ends the step, saves and raises.

    Args:
        loss: From model and batch to a scalar, a mean over rows; of ranks and pieces the mean is
            taken again.
        batches: From a step to all that follows: for each step as many pieces of this rank's rows
            as `config.accumulate` says, for at least `steps` of them.
        validate: Metrics of the model, which is in evaluation mode, logged beside the loss. Every
            rank calls it, and must get the same.
        groups: Parameters with their factors; `matrices_decay` if left out.
        after_step: Called after each step of the optimiser, before anything is saved.

    Returns:
        The model with its final weights, on the device; in shards, if it was trained so.

    Raises:
        FloatingPointError: If the loss or its gradient is not finite; no such step is taken.
        OSError: If a checkpoint cannot be written; the last one stays.
    """
    place = resolve_device(device)
    model.to(place)
    if run.finished:
        model.load_state_dict(load_weights(run.path))
        return model
    state = _State(model, loss, config, run, groups or matrices_decay)
    pieces = _endless(batches, state.step, config.steps)
    with (
        torch.random.fork_rng([place] if place.type == "cuda" else []),
        fast_products(model),
        _progress(title, config.steps, state.step) as show,
        noted_interrupts() as interrupted,
    ):
        while not state.finished:
            value = state.update(pieces, place)
            if after_step:
                after_step(model)
            show(state.step, value)
            if validate and state.due(config.validate_every):
                state.validated(state.kept.eval().lend(validate))
            stop, save = anywhere(bool(interrupted), state.save_is_due)
            if stop or save:
                state.save()
            if stop:
                raise KeyboardInterrupt
    model.load_state_dict(state.best.weights or state.result.state_dict())
    run.finish(model.state_dict())
    return model


class _State:
    """Model, optimiser, average and step: what a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        config: TrainingConfig,
        run: RunFolder,
        groups: Callable[[Any], list[Group]],
    ):
        self.model, self.config, self.run = model, config, run
        self.average = config.ema and AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)
        )
        learning = Objective(model, loss)
        self.kept = Objective(self.average.module, loss) if self.average else learning
        self.objective = parallel(learning, config.sharding)
        if self.average and config.sharding == "shard":
            parallel(self.kept, "shard")
        self.optimizer = torch.optim.AdamW(
            merged(groups(model)), config.learning_rate, config.betas, fused=config.fused or None
        )
        self.best = EarlyStopping(config.patience)
        self.step, self.saved = 0, time.monotonic()
        checkpoint = run.load(self._layouts() if config.sharding == "shard" else None)
        if checkpoint:
            self._restore(*checkpoint)

    @property
    def result(self) -> Any:
        """The model to keep: the average where there is one."""
        return self.kept.model

    @property
    def finished(self) -> bool:
        """Whether no step is left, or none is worth it."""
        return self.step >= self.config.steps or self.best.over

    def update(self, pieces: Iterator[Any], place: torch.device) -> Tensor:
        """One step of the optimiser down the mean gradient of pieces and ranks; the mean loss."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step + rank() * RANK_SEED)
        self.model.train()
        self._set_rates()
        self.optimizer.zero_grad()
        values = [
            self._backward(next(pieces), place, last=piece + 1 == config.accumulate)
            for piece in range(config.accumulate)
        ]
        value = total(torch.stack(values).sum()) / ranks()
        norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip))
        self._require_finite(value, norm)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1
        if self.due(config.log_every):
            self.run.log(step=self.step, loss=value.item(), gradient=norm.item())
        return value

    def _backward(self, piece: Any, place: torch.device, last: bool) -> Tensor:
        """Adds the gradient of a piece of the step; averaged over ranks with the last one."""
        with postponed(self.objective, not last):
            with autocast(place, self.config.precision):
                value = self.objective(piece)
            value = value / self.config.accumulate
            value.backward()
        return value.detach()

    def _require_finite(self, loss: Tensor, norm: Tensor) -> None:
        """Of both at once, since a GPU that is asked has nothing to do until it has answered."""
        values = torch.stack([loss, norm]).tolist()
        for what, value in zip(("loss", "norm of the gradient"), values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the {what} is {value} at step {self.step}; "
                    "look for bad input, or lower the learning rate"
                )

    def validated(self, metrics: dict[str, float]) -> None:
        """Logs a validation, and keeps the weights if they are the best."""
        self.run.log(step=self.step, **metrics)
        self.best.note(metrics, self.result)

    def _set_rates(self) -> None:
        """Learning rate and weight decay of each group; a first step of rate 0 is left out."""
        config = self.config
        factor = warmup_cosine(self.step + 1, config.steps, config.warmup, config.floor)
        start, last = config.weight_decay, config.final_weight_decay
        decay = CosineSchedule(start, start if last is None else last, config.steps)(self.step)
        for group in self.optimizer.param_groups:
            rests = group["last_layer"] and self.step < config.rest
            group["lr"] = 0.0 if rests else factor * config.learning_rate * group["rate"]
            group["weight_decay"] = decay * group["decay"]

    def due(self, every: int) -> bool:
        """Whether this step is one of every so many, or the last."""
        return self.step % every == 0 or self.step == self.config.steps

    @property
    def save_is_due(self) -> bool:
        """Whether the last checkpoint is some time ago."""
        return time.monotonic() - self.saved > self.config.save_every

    def save(self) -> None:
        """Writes a checkpoint."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.average:
            tensors |= {f"average.{n}": value for n, value in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.tensors().items()}
        self.run.save(tensors, self.step, self.config.sharding)
        self.saved = time.monotonic()

    def _layouts(self) -> dict[str, Tensor]:
        """How ranks share what a checkpoint holds of each weight, by its names there."""
        model = self.model.state_dict()
        prefixes = ("model.", "average.module.", "best.weights.")
        weights = {f"{prefix}{name}": model[name] for prefix in prefixes for name in model}
        learning = (p for group in self.optimizer.param_groups for p in group["params"])
        moments = {
            f"optimizer.{i}.{moment}": parameter.detach()
            for i, parameter in enumerate(learning)
            for moment in ("exp_avg", "exp_avg_sq")
        }
        return weights | moments

    def _restore(self, tensors: dict[str, Tensor], step: int) -> None:
        self.step = step
        self.best.restore(_with_prefix(tensors, "best."))
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        if self.average:
            self.average.load_state_dict(_with_prefix(tensors, "average."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _with_prefix(tensors, "optimizer.").items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _endless(batches: Batches, start: int, steps: int) -> Iterator[Any]:
    """Batches from a step on, or a ValueError at their end."""
    yield from batches(start)
    raise ValueError(f"the data ended before step {steps}; expected endless batches")


@contextmanager
def _progress(title: str, steps: int, done: int) -> Iterator[Callable[[int, Tensor], None]]:
    if rank() > 0:
        yield lambda step, value: None
        return
    with bar() as progress:
        task = progress.add_task(title, total=steps, completed=done, note="")
        yield lambda step, value: progress.update(
            task, completed=step, note=f"loss {value.item():.4f}"
        )
