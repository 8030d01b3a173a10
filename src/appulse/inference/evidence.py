"""What a posterior is conditioned on: named blocks of vectors or sets, some of which may lack.

Shapes: B observations, N members of a set, F features, K blocks, P = 2^K subsets of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Block: TypeAlias = Any  # (B, F) numbers, (B, N, F) sets, or a list of B sets (n_i, F)
Context: TypeAlias = Any  # one block, or names of blocks to blocks
SOLE = "context"  # name of a block that came without one


@dataclass(frozen=True)
class Kind:
    """What a block of evidence looks like."""

    features: int
    is_set: bool


@dataclass(frozen=True, eq=False)
class Evidence:
    """Blocks of B observations; what is absent is 0 and marked so.

    Vectors (B, F) have `members` (B, 1) and are kept as sets of one, (B, 1, F).
    """

    blocks: dict[str, Float[Tensor, "B N F"]]
    members: dict[str, Bool[Tensor, "B N"]]  # which members of the sets there are
    kinds: dict[str, Kind]

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    def __getitem__(self, rows: slice | Tensor) -> "Evidence":
        blocks = {name: block[rows] for name, block in self.blocks.items()}
        members = {name: there[rows] for name, there in self.members.items()}
        return Evidence(blocks, members, self.kinds)

    @property
    def present(self) -> Bool[Tensor, "B K"]:
        """Which blocks each observation has."""
        return torch.stack([there.any(1) for there in self.members.values()], 1)

    @property
    def subset(self) -> Int[Tensor, "B"]:
        """Number of each observation's subset of the blocks: bit k for the k-th."""
        present = self.present
        return (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(1)

    def subsets(self) -> Iterator[tuple[int, Bool[Tensor, "K"], Bool[Tensor, "B"]]]:
        """Each subset but the empty one: its number, its blocks, and the rows that hold them."""
        present = self.present
        for subset in range(1, 2 ** len(self.kinds)):
            blocks = torch.tensor([bool(subset >> k & 1) for k in range(len(self.kinds))])
            blocks = blocks.to(present.device)
            yield subset, blocks, (present | ~blocks).all(1)

    def held(self, least: int) -> Bool[Tensor, "P"]:
        """Which subsets at least so many rows hold, by number; the empty one never."""
        return torch.tensor([False, *(rows.sum() >= least for *_, rows in self.subsets())])

    def require(self, held: Bool[Tensor, "P"]) -> None:
        """Refuses observations with another subset of the blocks than one of these.

        Raises:
            ValueError: Naming the blocks of the first.
        """
        unheld = ~held[self.subset]
        if unheld.any():
            row = int(unheld.nonzero()[0])
            there = zip(self.kinds, self.present[row], strict=True)
            raise ValueError(
                f"row {row} has {' and '.join(name for name, has in there if has)}, which too few "
                "rows had together in training; leave some of it out, or train on rows that have it"
            )

    def keep(self, kept: Bool[Tensor, "B K"]) -> "Evidence":
        """The evidence without the blocks that are not kept."""
        columns = zip(self.members.items(), kept.unbind(1), strict=True)
        members = {name: there & column[:, None] for (name, there), column in columns}
        return Evidence(self.blocks, members, self.kinds)

    def to(self, device: torch.device) -> "Evidence":
        """The evidence on a device."""
        blocks = {name: block.to(device) for name, block in self.blocks.items()}
        members = {name: there.to(device) for name, there in self.members.items()}
        return Evidence(blocks, members, self.kinds)


def gather(context: Context, kinds: Mapping[str, Kind] | None = None) -> Evidence:
    """Checks a caller's context and makes tensors of it.

    Args:
        context: One block or names of blocks to blocks. A block is an array (B, F), an array
            (B, N, F) of sets, or a list of B sets (n_i, F). In a named block, a row that is NaN
            throughout, or a set without members, says that this observation lacks that block.
        kinds: What the model was trained on; blocks may lack, but not be different.

    Raises:
        ValueError: On no blocks, unknown names, other shapes than in training, rows that do not
            match, numbers that are not finite, or an observation without any evidence.
    """
    named = context if isinstance(context, Mapping) else {SOLE: context}
    _check_names(named, kinds)
    tensors = {name: _block(name, block) for name, block in named.items()}
    _check_rows({name: len(block) for name, (block, _, _) in tensors.items()})
    seen = {name: kind for name, (_, _, kind) in tensors.items()}
    for name, kind in seen.items():
        if kinds is not None and kind != kinds[name]:
            raise ValueError(
                f"{name} holds {_words(kind)}; in training it held {_words(kinds[name])}"
            )
    rows = len(next(iter(tensors.values()))[0])
    blocks, members = {}, {}
    for name, kind in (kinds or seen).items():
        if name in tensors:
            blocks[name], members[name] = tensors[name][:2]
        else:
            blocks[name] = torch.zeros(rows, 1, kind.features)
            members[name] = torch.zeros(rows, 1, dtype=torch.bool)
    evidence = Evidence(blocks, members, dict(kinds or seen))
    empty = ~evidence.present.any(1)
    if empty.any():
        raise ValueError(
            f"{int(empty.sum())} of {rows} observations have no evidence (NaN throughout, or an "
            f"empty set), first row {int(empty.nonzero()[0])}; leave them out"
        )
    return evidence


def _check_names(named: Mapping[str, Block], kinds: Mapping[str, Kind] | None) -> None:
    if not named:
        raise ValueError("the context has no blocks; expected an array, or a dict of arrays")
    unknown = [name for name in named if kinds is not None and name not in kinds]
    if unknown:
        raise ValueError(
            f"no evidence named {unknown[0]!r} in training; there was {list(kinds or ())}"
        )


def _check_rows(rows: dict[str, int]) -> None:
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"blocks have different numbers of rows: {rows}; expected one per observation"
        )
    if not next(iter(rows.values())):
        raise ValueError("the context has no rows; expected at least one observation")


def _block(name: str, block: Block) -> tuple[Tensor, Tensor, Kind]:
    if isinstance(block, Sequence) and not isinstance(block, str):
        return _ragged(name, [np.asarray(members, dtype=np.float32) for members in block])
    array = np.asarray(block, dtype=np.float32)
    if array.ndim not in (2, 3) or array.shape[-1] == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (observations, features), or "
            "(observations, members, features) for sets; give one observation as array[None]"
        )
    is_set = array.ndim == 3
    tensor = torch.from_numpy(array if is_set else array[:, None])
    absent = tensor.isnan().flatten(1).all(1) if name != SOLE else torch.zeros(len(tensor)).bool()
    there = (~absent)[:, None].expand(tensor.shape[:2])
    return _finite(name, tensor, there), there, Kind(array.shape[-1], is_set)


def _ragged(name: str, sets: list[np.ndarray]) -> tuple[Tensor, Tensor, Kind]:
    widths = {members.shape[-1] for members in sets if members.ndim == 2}
    if any(members.ndim != 2 for members in sets) or len(widths) != 1:
        raise ValueError(
            f"{name} is a list of shapes {sorted({m.shape for m in sets})[:3]}; expected sets "
            "(members, features) that share their features; give vectors as one array"
        )
    counts = torch.tensor([len(members) for members in sets])
    there = torch.arange(max(int(counts.max()), 1)) < counts[:, None]
    tensor = torch.zeros(*there.shape, widths.pop())
    tensor[there] = torch.from_numpy(np.concatenate(sets))
    return _finite(name, tensor, there), there, Kind(tensor.shape[-1], True)


def _finite(name: str, tensor: Tensor, there: Tensor) -> Tensor:
    """The block with 0 where nothing is."""
    bad = ~tensor.isfinite() & there[..., None]
    if bad.any():
        row = int(bad.flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"{name} has {int(bad.sum())} numbers that are NaN or infinite, first in row {row}; "
            "leave these rows out, or fill them in on purpose"
        )
    return torch.where(there[..., None], tensor, torch.zeros_like(tensor))


def _words(kind: Kind) -> str:
    return f"{'sets of ' if kind.is_set else ''}vectors of {kind.features} features"
