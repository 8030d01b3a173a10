"""What fine-tuning makes: a tower, and a small network that reads its embeddings.

Beside them the network reads what is measured: of spectra coordinates and redshifts, for classes of
images their structure.

Shapes: B galaxies, F features, D embedding, M measured, P numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..align.model import Model, ModelConfig
from ..align.towers import SpectrumTower
from ..device import fast_products, resolve_device
from ..progress import track
from ..search.embeddings import Modality
from ..survey.structure import structure_of
from ..training.run import load_weights, read_config, save_tensors, write_json
from .labelled import Galaxies
from .network import mlp
from .probes import WIDTH, MLPProbe
from .targets import Scale, TargetCode, Targets

AT_ONCE = 64  # galaxies through the whole tower


class Finetuned(nn.Module):
    """A tower and a small network on what `look` sees with it.

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

    @property
    def classes(self) -> bool:
        """Whether it tells classes, not properties."""
        return self.code.classes is not None

    def forward(
        self, embedding: Float[Tensor, "B D"], measured: Float[Tensor, "B M"]
    ) -> Float[Tensor, "B P"]:
        """Numbers that the code turns into targets."""
        return self.net((side_by_side(embedding, measured) - self.mean) / self.std)

    @torch.inference_mode()
    def predict(self, galaxies: Galaxies, *, device: str = "auto") -> Targets:
        """Properties, shape (B, P), or class names, shape (B,)."""
        place = resolve_device(device)
        self.to(place).eval()
        with fast_products(self.tower):
            parts = [self(*seen).cpu() for seen in look(self.tower, galaxies, self.classes, place)]
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
        seen = Scale(weights["mean"].double().numpy(), weights["std"].double().numpy())
        about = {name: config[name] for name in ("model", "trained_on")}
        tower = next(iter(model.towers.values()))
        tuned = cls(tower, MLPProbe(net, seen, code), targets["names"], about)
        tuned.load_state_dict(weights)
        return tuned.eval()


def side_by_side(
    embedding: Float[Tensor, "B D"], measured: Float[Tensor, "B M"]
) -> Float[Tensor, "B S"]:
    """Unit vectors, and what is measured."""
    return torch.cat([F.normalize(embedding.float(), dim=1), measured], dim=1)


def look(
    tower: Any, galaxies: Galaxies, classes: bool, place: torch.device
) -> Iterator[tuple[Float[Tensor, "B D"], Float[Tensor, "B M"]]]:
    """Embeddings and what is measured, some galaxies at a time."""
    for some, inputs in read(tower, galaxies, place):
        yield tower(inputs), measure(tower, some, inputs.features, classes)


def read(tower: Any, galaxies: Galaxies, place: torch.device) -> Iterator[tuple[Galaxies, Any]]:
    """Some galaxies at a time, and what the tower takes of them."""
    parts = [galaxies[i : i + AT_ONCE] for i in range(0, len(galaxies), AT_ONCE)]
    for some in track(parts, "read", len(galaxies)):
        inputs = tower.prepare(some)
        yield some, type(inputs)(*(tensor.to(place) for tensor in inputs))


def measure(
    tower: nn.Module, galaxies: Galaxies, features: Float[Tensor, "B F"], classes: bool
) -> Float[Tensor, "B M"]:
    """What is read beside embeddings; M is 0 for properties of images."""
    if isinstance(tower, SpectrumTower):
        return tower.measured(features)
    if not classes:
        return features[:, :0]
    return torch.from_numpy(structure_of(galaxies)).to(features.device)
