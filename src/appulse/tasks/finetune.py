"""Fine-tuning: a tower of a trained model learns somebody's own labels, of a few hundred galaxies.

A small network learns on frozen embeddings first; then, if wanted, the tower's last blocks learn
with it (linear probing, then fine-tuning: Kumar et al. 2022). What stays is better on validation.
Classes of images are told by their structure, too.

Shapes: B galaxies, T tokens, E token width, F features, D embedding, S structure, P numbers.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..align.model import Model, ModelConfig, structure_of
from ..device import resolve_device
from ..metrics import Estimate, accuracy, balanced_accuracy, bootstrap, r2
from ..progress import track
from ..search.embeddings import Modality
from ..survey.batches import BatchOrder
from ..survey.images import Images
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder, digest, load_weights, read_config, save_tensors, write_json
from .labelled import Galaxies, parts_of
from .network import mlp
from .probes import WIDTH, MLPProbe
from .targets import Scale, TargetCode, Targets

FEWEST = 60  # labelled galaxies
FEWEST_SCORED = 8  # of those held out: fewer make no interval
AT_ONCE = 64  # galaxies through the whole tower

TRAINING = TrainingConfig(  # of the last blocks
    steps=300,
    batch_size=32,
    learning_rate=1e-4,
    weight_decay=0.05,
    validate_every=15,
    patience=6,
)


class Finetuned(nn.Module):
    """A tower and a small network that reads its embeddings, for classes of images structure too.

    Attributes:
        names: Of the properties, or of the one class.
        about: The model it came from: its configuration and what it was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, tower: nn.Module, probe: MLPProbe, names: Sequence[str], about: dict[str, Any]
    ):
        super().__init__()
        self.tower, self.net = tower, probe.net
        self.code, self.names, self.about = probe.code, tuple(names), about
        self.register_buffer("mean", torch.from_numpy(probe.scale.mean).float())
        self.register_buffer("std", torch.from_numpy(probe.scale.std).float())

    @property
    def modality(self) -> Modality:
        """What the tower reads."""
        return "spectrum" if self.about["model"]["image"] is None else "image"

    def forward(
        self, embedding: Float[Tensor, "B D"], structure: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B P"]:
        """Numbers that the code turns into targets."""
        seen = torch.cat([F.normalize(embedding.float(), dim=1), structure], dim=1)
        return self.net((seen - self.mean) / self.std)

    def structure(self, galaxies: Galaxies) -> Float[Tensor, "B S"]:
        """Of galaxies, if the network reads it; else S is 0."""
        if self.code.classes is None:
            return torch.empty(len(galaxies), 0)
        return torch.from_numpy(structure_of(galaxies))

    @torch.inference_mode()
    def predict(self, galaxies: Galaxies, *, device: str = "auto") -> Targets:
        """Properties, shape (B, P), or class names, shape (B,)."""
        place = resolve_device(device)
        self.to(place).eval()
        structure = self.structure(galaxies).to(place).split(AT_ONCE)
        inputs = _inputs(self.tower, galaxies, place)
        parts = [self(self.tower(x), s).cpu() for x, s in zip(inputs, structure, strict=True)]
        return self.code.decode(torch.cat(parts).double().numpy())

    def save(self, path: Path) -> None:
        """Writes config.json and weights.safetensors."""
        save_tensors(path / "weights.safetensors", self.state_dict())
        classes = None if self.code.classes is None else self.code.classes.tolist()
        scale = {name: value.tolist() for name, value in asdict(self.code.scale).items()}
        targets = {"names": self.names, "classes": classes, "scale": scale}
        write_json(path / "config.json", {"stage": "finetune", "targets": targets, **self.about})

    @classmethod
    def load(cls, path: Path) -> "Finetuned":
        """Reads what `save` wrote.

        Raises:
            ValueError: If the folder holds something else.
        """
        config = read_config(path)
        if config.get("stage") != "finetune":
            raise ValueError(
                f"{path} holds a run of stage {config.get('stage')!r}; expected one of "
                "`appulse finetune`"
            )
        targets = config.pop("targets")
        classes = None if targets["classes"] is None else np.array(targets["classes"])
        scale = Scale(**{name: np.array(value) for name, value in targets["scale"].items()})
        code, weights = TargetCode(scale, classes), load_weights(path)
        net = mlp([len(weights["mean"]), WIDTH, WIDTH, code.outputs])
        model = Model(ModelConfig.from_json(config["model"]), config["trained_on"])
        embedding = Scale(weights["mean"].double().numpy(), weights["std"].double().numpy())
        about = {name: config[name] for name in ("model", "trained_on")}
        tower = next(iter(model.towers.values()))
        tuned = cls(tower, MLPProbe(net, embedding, code), targets["names"], about)
        tuned.load_state_dict(weights)
        return tuned.eval()


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
        y: Properties, shape (B, P), NaN where unknown, or class names, shape (B,).
        names: Of the properties, or of the one class.
        out: Folder for the result, and for the run from which an interrupted training goes on.
        blocks: Last blocks of the tower that learn, with its pooling; 0 leaves it as it is.
        training: Of those blocks.

    Returns:
        The result, and scores on the held-out 15 %, one row of each galaxy: R² of each property
        that 8 of them have, or accuracies. A property that is the same for all of them has no R²:
        a warning says so.

    Raises:
        ValueError: If there are too few galaxies, or more blocks are to learn than there are.
    """
    count = len(np.unique(galaxies.ids))
    if count < FEWEST:
        raise ValueError(f"there are {count} labelled galaxies; expected {FEWEST} or more")
    tower, about = _tower_for(model, galaxies)
    if blocks > len(tower.trunk.blocks):
        raise ValueError(f"{blocks} blocks are to learn; the tower has {len(tower.trunk.blocks)}")
    made = model.describe(galaxies, device=device)
    seen = np.hstack([made.vectors, made.structure]) if y.ndim == 1 else made.vectors
    fit, stop, test = parts_of(galaxies.ids, training.seed)
    probe = MLPProbe.fit(seen[fit], y[fit], seen[stop], y[stop], training.seed)
    tuned = Finetuned(tower, probe, names, about)
    if blocks:
        _train_tail(tuned, galaxies, y, (fit, stop), blocks, training, out / "training", device)
    tuned.save(out)
    return tuned, _scores(tuned.predict(galaxies[test], device=device), y[test], names)


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
    features, tokens = _tokens(tuned.tower, galaxies, blocks, place)
    structure = tuned.structure(galaxies)
    target = torch.from_numpy(tuned.code.encode(y)).float().to(place)
    config = {"stage": "finetune", "blocks": blocks, "training": asdict(training)}
    config["data"] = digest({"tokens": tokens, "target": target})

    def take(rows: np.ndarray) -> tuple[Tensor, ...]:
        seen = (x[rows].to(place).float() for x in (features, tokens, structure))
        return (*seen, target[rows])

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
        structure: Float[Tensor, "B S"],
    ) -> Float[Tensor, "B P"]:
        """Numbers, from what the blocks before saw, and structure."""
        for block in self._blocks:
            tokens = block(tokens)
        return self.tuned(self._tower.head(features, self._tower.trunk.norm(tokens)), structure)


@torch.no_grad()
def _tokens(
    tower: Any, galaxies: Galaxies, blocks: int, place: torch.device
) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B T E"]]:
    """Features of all galaxies, and the tokens that the blocks to train take; computed once."""
    features, tokens = [], []
    tower.to(place).eval()
    hook = tower.trunk.blocks[-blocks].register_forward_pre_hook(
        lambda block, taken: tokens.append(taken[0].cpu())
    )
    for inputs in _inputs(tower, galaxies, place):
        tower.tokens(inputs)
        features.append(inputs.features.cpu())
    hook.remove()
    return torch.cat(features), torch.cat(tokens)


def _inputs(tower: Any, galaxies: Galaxies, place: torch.device) -> Iterator[Any]:
    """What the tower takes, some galaxies at a time."""
    parts = [galaxies[i : i + AT_ONCE] for i in range(0, len(galaxies), AT_ONCE)]
    for part in track(parts, "read", len(galaxies)):
        inputs = tower.prepare(part)
        yield type(inputs)(*(tensor.to(place) for tensor in inputs))


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
