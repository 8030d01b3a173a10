"""A model in shards: each rank keeps its part of every tensor (FSDP2; Zhao et al. 2023).

torch's `fully_shard` gathers the parameters of a block where it runs, frees them after it, and
leaves on each rank its part of the averaged gradient; optimiser and averages work on parts.
Checkpoints are torch's distributed ones: each rank writes its parts as safetensors into one folder,
and any number of ranks can read them.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from .distribution import Objective, by_first_rank


def shard(objective: Objective) -> None:
    """Shards the model in place, starting from the first rank's weights.

    Blocks, which are members of a `ModuleList`, are gathered one at a time as they are called; the
    rest for as long as the objective is.

    Raises:
        ValueError: If a parameter has no axis to be shared along.
    """
    for tensor in objective.state_dict().values():
        dist.broadcast(tensor, 0)
    lists = [module for module in objective.modules() if isinstance(module, nn.ModuleList)]
    for block in (block for blocks in lists for block in blocks):
        fully_shard(block)
    fully_shard(objective, reshard_after_forward=True)
    register_fsdp_forward_method(objective, "lend")


def save_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a folder of shards, whole or not at all; all ranks call it.

    Raises:
        OSError: If a rank cannot write its part.
    """
    unfinished = folder.with_name(f".{folder.name}")
    by_first_rank(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
    try:
        checkpoint.save(tensors, storage_writer=writer, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        by_first_rank(lambda: shutil.rmtree(unfinished, ignore_errors=True))
        raise OSError("; ".join(str(failure[0]) for failure in error.failures.values())) from error
    by_first_rank(lambda: unfinished.rename(folder))


def load_shards(folder: Path, layouts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a folder of shards, shared by these ranks as those of the same name are.

    What has no layout is read whole by every rank.
    """
    reader = HuggingFaceStorageReader(str(folder))
    names: dict[str, Any] = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty_like(layouts[name], dtype=saved.properties.dtype)
        if name in layouts
        else torch.empty(saved.size, dtype=saved.properties.dtype)
        for name, saved in names.items()
    }
    checkpoint.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    return tensors
