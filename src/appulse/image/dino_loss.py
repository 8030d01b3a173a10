"""Losses of self-distillation: DINO, iBOT and KoLeo (Oquab et al. 2023, section 4).

Shapes: B images, M masked patches, K prototypes, D width.
"""

import itertools
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..training.distribution import ranks, total


class Centering(nn.Module):
    """Teacher probabilities: softmax of centred logits (Caron et al. 2021, section 3.1).

    The centre is a running mean of the logits, and the one that counts is from before this batch:
    it keeps one prototype from winning everywhere, as the temperature keeps all from being equal.
    The mean is that of all ranks' logits.
    """

    center: Tensor

    def __init__(self, prototypes: int, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits: Float[Tensor, "B K"], temperature: float) -> Float[Tensor, "B K"]:
        """Probabilities; the centre then moves towards the mean of these logits."""
        logits = logits.float()
        probabilities = ((logits - self.center) / temperature).softmax(-1)
        mean = _mean(logits)
        if mean is not None:
            self.center.lerp_(mean, 1 - self.momentum)
        return probabilities


def _mean(logits: Float[Tensor, "B K"]) -> Float[Tensor, "K"] | None:
    """The mean over the rows of all ranks, None if there are none."""
    if ranks() == 1:
        return logits.mean(0) if len(logits) else None
    number = total(logits.new_tensor(len(logits)))
    return total(logits.sum(0)) / number if number else None


@torch.no_grad()
def sinkhorn(
    logits: Float[Tensor, "B K"], temperature: float, iterations: int = 3
) -> Float[Tensor, "B K"]:
    """Teacher probabilities that use all prototypes alike over the batch (Caron et al. 2020).

    The batch is that of all ranks.
    """
    q = (logits.float() / temperature).exp()
    number = total(q.new_tensor(len(q)))
    q = q / total(q.sum())
    for _ in range(iterations):
        q = q / (total(q.sum(0, keepdim=True)) * q.shape[1])
        q = q / (q.sum(1, keepdim=True) * number)
    return q * number


def dino_loss(
    students: Iterable[Float[Tensor, "B K"]],
    teachers: Sequence[Float[Tensor, "B K"]],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Cross-entropy of each student's logits with each teacher's probabilities, summed over both.

    The sum, not the mean, over pairs of views is upstream's; the caller divides.
    """
    pairs = itertools.product(students, teachers)
    return torch.stack([cross_entropy(s, t, temperature).mean() for s, t in pairs]).sum()


def ibot_loss(
    student: Float[Tensor, "M K"],
    teacher: Float[Tensor, "M K"],
    weight: Float[Tensor, "M"],
    images: int,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Cross-entropy at masked patches (iBOT, Zhou et al. 2022).

    Args:
        student: Logits where patches are hidden.
        teacher: Probabilities of the same patches, seen.
        weight: One over the number of masked patches of the same image.
        images: All of the batch, with masked patches or without: the sum is divided by it.
    """
    return (cross_entropy(student, teacher, temperature) * weight).sum() / images


def koleo_loss(x: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Minus the mean log distance to the nearest other vector (Sablayrolles et al. 2019).

    It spreads embeddings evenly over the sphere. 1e-8 keeps equal vectors finite, as upstream.
    """
    x = F.normalize(x.float(), dim=-1, eps=1e-8)
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 cannot tell the nearest
        similarity = (x @ x.T).detach().fill_diagonal_(-1)
    distance = F.pairwise_distance(x, x[similarity.argmax(1)], eps=1e-8)
    return -(distance + 1e-8).log().mean()


def cross_entropy(
    student: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], temperature: float
) -> Float[Tensor, "B"]:
    """Of logits at a temperature with probabilities, row by row."""
    return -(teacher * (student.float() / temperature).log_softmax(-1)).sum(-1)
