"""Early stopping: the weights of the best validation are kept, and a run ends when none is better.

The measure is `validation_loss`, of which less is better.
"""

import math

import torch
from torch import Tensor, nn


class EarlyStopping:
    """The best weights so far, and for how many validations they have been the best."""

    def __init__(self, patience: int | None):
        """Stops after `patience` validations without a better one; None keeps and stops nothing."""
        self.patience, self.since, self.loss = patience, 0, math.inf
        self.weights: dict[str, Tensor] = {}

    def note(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Takes notice of a validation of the model.

        Raises:
            ValueError: If it measured no `validation_loss`.
        """
        if self.patience is None:
            return
        if "validation_loss" not in metrics:
            raise ValueError(f"early stopping needs a validation_loss; got {sorted(metrics)}")
        self.since += 1
        if metrics["validation_loss"] < self.loss:
            self.since, self.loss = 0, metrics["validation_loss"]
            self.weights = {n: t.detach().cpu().clone() for n, t in model.state_dict().items()}

    @property
    def over(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.since >= self.patience

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        if self.patience is None:
            return {}
        weights = {f"weights.{name}": tensor for name, tensor in self.weights.items()}
        loss = torch.tensor(self.loss, dtype=torch.float64)
        return {"since": torch.tensor(self.since), "loss": loss, **weights}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes what `tensors` gave."""
        if self.patience is None:
            return
        self.since, self.loss = int(tensors.pop("since")), tensors.pop("loss").item()
        self.weights = {name.removeprefix("weights."): t for name, t in tensors.items()}
