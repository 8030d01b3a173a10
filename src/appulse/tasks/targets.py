"""What a learner learns: properties as numbers, or classes, in one form.

Targets are either numbers, shape (B, P), NaN where unknown, or class names, shape (B,).

Shapes: B galaxies, P numbers, or as many as there are classes.
"""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

Targets = Float[np.ndarray, "B P"] | Shaped[np.ndarray, "B"]
ValTargets = Float[np.ndarray, "V P"] | Shaped[np.ndarray, "V"]  # validation


@dataclass(frozen=True, eq=False)
class Scale:
    """Shift and scale of each column to mean 0 and standard deviation 1, ignoring NaN."""

    mean: Float[np.ndarray, "D"]
    std: Float[np.ndarray, "D"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "B D"]) -> "Scale":
        """The scale of the columns of `x`; constant columns keep their unit."""
        mean, std = (np.asarray(f(x, axis=0, dtype=np.float64)) for f in (np.nanmean, np.nanstd))
        return cls(mean, np.where(std > 0, std, 1))

    def apply(self, x: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B D"]:
        """Columns in standard units."""
        return (x - self.mean) / self.std

    def undo(self, x: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B D"]:
        """Columns in their own units."""
        return x * self.std + self.mean


@dataclass(frozen=True, eq=False)
class TargetCode:
    """Targets as numbers, properties standardised and classes as indicators, and back."""

    scale: Scale
    classes: np.ndarray | None  # sorted names; None for properties

    @classmethod
    def of(cls, y: Targets) -> "TargetCode":
        """The code that training targets call for."""
        if y.ndim == 2:
            return cls(Scale.of(y), None)
        classes = np.unique(y)
        return cls(Scale(np.zeros(len(classes)), np.ones(len(classes))), classes)

    @property
    def outputs(self) -> int:
        """How many numbers a galaxy has."""
        return len(self.scale.mean)

    def encode(self, y: Targets) -> Float[np.ndarray, "B P"]:
        """Numbers to learn; NaN where unknown."""
        if self.classes is None:
            return self.scale.apply(y)
        return (y[:, None] == self.classes).astype(np.float64)

    def decode(self, numbers: Float[np.ndarray, "B P"]) -> Targets:
        """Properties in their own units, or the class of the largest number."""
        if self.classes is None:
            return self.scale.undo(numbers)
        return self.classes[numbers.argmax(axis=1)]

    def loss(
        self, numbers: Float[Tensor, "B P"], target: Float[Tensor, "B P"]
    ) -> Float[Tensor, ""]:
        """Squared error, mean over what is known; for classes cross-entropy of logits."""
        if self.classes is not None:
            return F.cross_entropy(numbers, target)
        known = ~target.isnan()
        return (numbers - target)[known].square().sum() / known.sum().clamp(min=1)
