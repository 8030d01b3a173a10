"""The training loop: one for every objective."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..device import Precision, autocast, resolve_device
from ..progress import bar
from .run import RunFolder, load_weights
from .schedules import CosineSchedule, warmup_cosine

M = TypeVar("M", bound=nn.Module)
Batches = Callable[[int], Iterable[Any]]


class Group(NamedTuple):
    """A parameter, and what multiplies its learning rate and its weight decay."""

    parameter: nn.Parameter
    rate: float = 1.0
    decay: float = 1.0
    last_layer: bool = False  # stays for the first steps, `TrainingConfig.rest`


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and how precisely to train."""

    steps: int
    batch_size: int
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
    fused: bool = False  # optimiser in one kernel: a fifth less CPU for small networks
    seed: int = 0
    log_every: int = 10  # steps
    validate_every: int = 100  # steps
    save_every: float = field(default=60.0, compare=False)  # seconds


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

    Every random number follows from the seed and the step, so an interrupted run ends with the
    weights of an uninterrupted one, bit for bit at an equal number of threads. Ctrl-C
    ends the step, saves and raises.

    Args:
        loss: From model and batch to a scalar.
        batches: From a step to that step's batch and all that follow; at least `steps` of them.
        validate: Metrics of the model, which is in evaluation mode, logged beside the loss.
        groups: Parameters with their factors; `matrices_decay` if left out.
        after_step: Called after each step of the optimiser, before anything is saved.

    Returns:
        The model with its final weights, on the device.

    Raises:
        FloatingPointError: If the loss is not finite.
        OSError: If a checkpoint cannot be written; the last one stays.
    """
    place = resolve_device(device)
    model.to(place)
    if run.finished:
        model.load_state_dict(load_weights(run.path))
        return model
    state = _State(model, config, run, (groups or matrices_decay)(model))
    with (
        torch.random.fork_rng(),
        _progress(title, config.steps, state.step) as show,
        _noted_interrupts() as interrupted,
    ):
        for batch in _limited(batches, state.step, config.steps):
            torch.manual_seed(config.seed * 1_000_003 + state.step)
            model.train()
            with autocast(place, config.precision):
                value = loss(model, batch)
            state.update(value)
            if after_step:
                after_step(model)
            show(state.step, value)
            if validate and state.due(config.validate_every):
                run.log(step=state.step, **validate(state.result.eval()))
            if interrupted or state.save_is_due:
                state.save()
            if interrupted:
                raise KeyboardInterrupt
    model.load_state_dict(state.result.state_dict())
    run.finish(model.state_dict())
    return model


class _State:
    """Model, optimiser, average and step: what a checkpoint holds."""

    def __init__(
        self, model: nn.Module, config: TrainingConfig, run: RunFolder, groups: list[Group]
    ):
        self.model, self.config, self.run = model, config, run
        self.optimizer = torch.optim.AdamW(
            _fused(groups), config.learning_rate, config.betas, fused=config.fused or None
        )
        self.average = config.ema and AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        self.step, self.saved = 0, time.monotonic()
        checkpoint = run.load()
        if checkpoint:
            self._restore(*checkpoint)

    @property
    def result(self) -> Any:
        """The model to keep: the average where there is one."""
        return self.average.module if self.average else self.model

    def update(self, value: Tensor) -> None:
        """One step of the optimiser down the gradient of `value`."""
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value.item()} at step {self.step}; "
                "look for bad input, or lower the learning rate"
            )
        self._set_rates()
        self.optimizer.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1
        if self.due(self.config.log_every):
            self.run.log(step=self.step, loss=value.item(), gradient=norm.item())

    def _set_rates(self) -> None:
        """Learning rate and weight decay of each group; a first step of rate 0 is left out."""
        config = self.config
        factor = warmup_cosine(self.step + 1, config.steps, config.warmup, config.floor)
        last = (
            config.weight_decay if config.final_weight_decay is None else config.final_weight_decay
        )
        decay = CosineSchedule(config.weight_decay, last, config.steps)(self.step)
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
        self.run.save(tensors, self.step)
        self.saved = time.monotonic()

    def _restore(self, tensors: dict[str, Tensor], step: int) -> None:
        self.step = step
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        if self.average:
            self.average.load_state_dict(_with_prefix(tensors, "average."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _with_prefix(tensors, "optimizer.").items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})


def matrices_decay(model: nn.Module) -> list[Group]:
    """Weight decay for matrices only; biases, norms and single vectors go without."""
    return [
        Group(parameter, decay=float(parameter.ndim > 1))
        for parameter in model.parameters()
        if parameter.requires_grad
    ]


def _fused(groups: list[Group]) -> list[dict[str, Any]]:
    """One group of the optimiser for all parameters that share their factors."""
    fused: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for parameter, *factors in groups:
        fused.setdefault(tuple(factors), []).append(parameter)
    return [
        {"params": parameters, **dict(zip(Group._fields[1:], factors, strict=True))}
        for factors, parameters in fused.items()
    ]


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _limited(batches: Batches, start: int, steps: int) -> Iterator[Any]:
    """The batches of the remaining steps.

    Raises:
        ValueError: If there are fewer.
    """
    if start >= steps:
        return
    for step, batch in enumerate(batches(start), start):
        yield batch
        if step + 1 == steps:
            return
    raise ValueError(f"the data ended before step {steps}; expected endless batches")


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C adds to the list, so that a step is never left half done; twice stops at once."""
    noted: list[int] = []

    def note(signum: int, _frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield noted  # only the main thread gets signals
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(title: str, steps: int, done: int) -> Iterator[Callable[[int, Tensor], None]]:
    with bar() as progress:
        task = progress.add_task(title, total=steps, completed=done, note="")
        yield lambda step, value: progress.update(
            task, completed=step, note=f"loss {value.item():.4f}"
        )
