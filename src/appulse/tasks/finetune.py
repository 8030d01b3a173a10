"""Fine-tuning: a tower of a trained model learns somebody's own labels, of a few hundred galaxies.

A small network learns on frozen embeddings first; then, if wanted, the tower's last blocks learn
with it (linear probing, then fine-tuning: Kumar et al. 2022). What stays is better on validation.

Shapes: B galaxies, T tokens, E token width, F features, M measured, P numbers.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..align.model import Model
from ..device import fast_products, resolve_device
from ..digest import digest
from ..metrics import Estimate, accuracy, balanced_accuracy, bootstrap, r2
from ..survey.batches import BatchOrder
from ..survey.images import Images
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder
from .finetuned import Finetuned, look, measure, read, side_by_side
from .labelled import Galaxies, parts_of
from .probes import MLPProbe
from .targets import Targets

FEWEST = 60  # labelled galaxies
FEWEST_KNOWN = 20  # of those for each property
FEWEST_SCORED = 8  # of those held out: fewer make no interval

TRAINING = TrainingConfig(  # of the last blocks
    steps=300,
    batch_size=32,
    learning_rate=1e-4,
    weight_decay=0.05,
    validate_every=15,
    patience=6,
)


def finetune(
    model: Model,
    galaxies: Galaxies,
    y: Targets,
    names: Sequence[str],
    out: Path,
    *,
    blocks: int = 0,
    training: TrainingConfig = TRAINING,
    device: str = "auto",
) -> tuple[Finetuned, dict[str, Estimate]]:
    """Learns labels of galaxies, and says how well on a part of them that it did not learn from.

    Args:
        model: Any with a tower for these galaxies; it stays as it is.
        galaxies: Images or spectra; rows of one id are one galaxy, and are never on both sides.
            That the model saw none of them is the caller's to see to, as `labelled_survey` does.
        y: Properties, shape (B, P), not finite where unknown, or class names, shape (B,).
        names: Of the properties, or of the one class.
        out: Folder for the result, and for the run from which an interrupted training goes on.
        blocks: Last blocks of the tower that learn, with its pooling; 0 leaves it as it is.
        training: Of those blocks.

    Returns:
        The result, and scores on the held-out 15 %, one row of each galaxy: R² of each property
        that 8 of them have, or accuracies. A property that is the same for all of them has no R²:
        a warning says so.

    Raises:
        ValueError: If there are too few galaxies, or too few of whom a property is known, or more
            blocks are to learn than there are.
    """
    count = len(np.unique(galaxies.ids))
    if count < FEWEST:
        raise ValueError(f"there are {count} labelled galaxies; expected {FEWEST} or more")
    y = _known(y, names, galaxies.ids)
    tower, about = _tower_for(model, galaxies)
    most = len(tower.trunk.blocks)
    if not 0 <= blocks <= most:
        raise ValueError(f"{blocks} blocks are to learn; the tower has {most}, and 0 is the least")
    seen = _seen(tower, galaxies, y.ndim == 1, resolve_device(device))
    fit, stop, test = parts_of(galaxies.ids, training.seed)
    probe = MLPProbe.fit(seen[fit], y[fit], seen[stop], y[stop], training.seed)
    tuned = Finetuned(tower, probe, names, about)
    if blocks:
        _train_tail(tuned, galaxies, y, (fit, stop), blocks, training, out / "training", device)
    tuned.save(out)
    return tuned, _scores(tuned.predict(galaxies[test], device=device), y[test], names)


def _known(y: Targets, names: Sequence[str], ids: np.ndarray) -> Targets:
    """NaN wherever a property is unknown, also where it is the logarithm of none: -inf.

    Raises:
        ValueError: If too few galaxies have one of them.
    """
    if y.ndim == 1:
        return y
    finite = np.isfinite(y)
    for name, column in zip(names, finite.T, strict=True):
        if (count := len(np.unique(ids[column]))) < FEWEST_KNOWN:
            raise ValueError(
                f"{name} is known of {count} galaxies; expected {FEWEST_KNOWN} or more: leave it "
                "out, or label others"
            )
    return np.where(finite, y, np.nan)


@torch.no_grad()  # parameters that move in inference mode could not learn afterwards
def _seen(
    tower: Any, galaxies: Galaxies, classes: bool, place: torch.device
) -> Float[np.ndarray, "B _"]:
    """What the small network reads, with the tower as it is."""
    tower.to(place).eval()
    with fast_products(tower):
        parts = [side_by_side(*seen).cpu() for seen in look(tower, galaxies, classes, place)]
    return torch.cat(parts).numpy()


def _tower_for(model: Model, galaxies: Galaxies) -> tuple[Any, dict[str, Any]]:
    """A copy of the tower that reads these galaxies, and how to build it again."""
    image = isinstance(galaxies, Images)
    tower = copy.deepcopy(model.image if image else model.spectrum)
    alone = asdict(model.config) | {"spectrum" if image else "image": None}
    return tower, {"model": alone, "trained_on": list(model.trained_on)}


def _train_tail(
    tuned: Finetuned,
    galaxies: Galaxies,
    y: Targets,
    parts: tuple[np.ndarray, np.ndarray],
    blocks: int,
    training: TrainingConfig,
    out: Path,
    device: str,
) -> None:
    """Trains the last blocks, the pooling and the small network, in place, if that is better."""
    place, (fit, stop) = resolve_device(device), parts
    training = replace(training, batch_size=min(training.batch_size, len(fit)))
    tail = _Tail(tuned, blocks).to(place)
    taken = _taken(tuned, galaxies, blocks, place)
    target = torch.from_numpy(tuned.code.encode(y)).float().to(place)
    config = {"stage": "finetune", "blocks": blocks, "training": asdict(training)}
    config["data"] = digest({"tokens": taken[1], "target": target})

    def take(rows: np.ndarray) -> tuple[Tensor, ...]:
        return (*(x[rows].to(place).float() for x in taken), target[rows])

    def loss(tail: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return tuned.code.loss(tail(*batch[:-1]), batch[-1])

    def batches(step: int) -> Iterator[tuple[Tensor, ...]]:
        return map(take, BatchOrder(fit, **training.order(step)))

    @torch.no_grad()
    def validate(tail: nn.Module) -> dict[str, float]:
        return {"validation_loss": loss(tail, take(stop)).item()}

    before, start = validate(tail), copy.deepcopy(tuned.state_dict())
    folder = RunFolder(out, config)
    train(tail, loss, batches, training, folder, validate=validate, device=device, title="finetune")
    if validate(tail.eval())["validation_loss"] >= before["validation_loss"]:
        tuned.load_state_dict(start)


class _Tail(nn.Module):
    """What learns: the last blocks, what follows them, and the small network."""

    def __init__(self, tuned: Finetuned, blocks: int):
        super().__init__()
        self.tuned, self.count = tuned.requires_grad_(False), blocks
        for part in (*self._blocks, self._tower.trunk.norm, self._tower.head, tuned.net):
            part.requires_grad_(True)

    @property
    def _tower(self) -> Any:
        return self.tuned.tower

    @property
    def _blocks(self) -> Any:
        return self._tower.trunk.blocks[-self.count :]

    def forward(
        self,
        features: Float[Tensor, "B F"],
        tokens: Float[Tensor, "B T E"],
        measured: Float[Tensor, "B M"],
    ) -> Float[Tensor, "B P"]:
        """Numbers, from what the blocks before saw, and what is measured."""
        for block in self._blocks:
            tokens = block(tokens)
        return self.tuned(self._tower.head(features, self._tower.trunk.norm(tokens)), measured)


@torch.no_grad()
def _taken(
    tuned: Finetuned, galaxies: Galaxies, blocks: int, place: torch.device
) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B T E"], Float[Tensor, "B M"]]:
    """What the tail takes of all galaxies, computed once."""
    tower: Any = tuned.tower
    features, tokens, measured = [], [], []
    tower.to(place).eval()
    hook = tower.trunk.blocks[-blocks].register_forward_pre_hook(
        lambda block, taken: tokens.append(taken[0].cpu())
    )
    for some, inputs in read(tower, galaxies, place):
        tower.tokens(inputs)
        features.append(inputs.features.cpu())
        measured.append(measure(tower, some, inputs.features, tuned.classes).cpu())
    hook.remove()
    return torch.cat(features), torch.cat(tokens), torch.cat(measured)


def _scores(predicted: Targets, true: Targets, names: Sequence[str]) -> dict[str, Estimate]:
    if true.ndim == 1:
        scores = {"accuracy": accuracy, "balanced accuracy": balanced_accuracy}
        return {name: bootstrap(score, predicted, true) for name, score in scores.items()}
    columns = {}
    for name, ours, theirs in zip(names, predicted.T, true.T, strict=True):
        known = np.isfinite(theirs)
        if known.sum() < FEWEST_SCORED:
            continue
        if np.ptp(theirs[known]) == 0:
            value = theirs[known][0]
            warnings.warn(f"{name} has no R²: all {known.sum()} held out are {value}", stacklevel=3)
        else:
            columns[f"{name}, R²"] = bootstrap(r2, ours[known], theirs[known])
    return columns
