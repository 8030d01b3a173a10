"""One run on several processes, started by torchrun: torch's own data parallelism (DDP).

Each process, a rank, holds the whole model, or a part of it (see sharding.py), and reads its share
of each batch; gradients are averaged over ranks. Rank 0 alone writes files, but for shards. Alone,
a process is rank 0 of 1, and everything here does nothing.
"""

import atexit
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Sharding = Literal["replicate", "shard"]  # each rank holds a model, or a part
LONGEST = timedelta(days=1)  # that ranks wait for work of the first; torchrun ends them if it fails


def join_ranks() -> None:
    """Joins the processes that torchrun started, by gloo and NCCL, until this one ends.

    Once: a second group of the same processes would meet the addresses of the first, and wait.
    After Ctrl-C torchrun gives them 30 seconds to end their step and save.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _together():
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=LONGEST)
    atexit.register(_leave)


def _leave() -> None:
    """Ends the group when its threads are idle.

    If one still lets go of the last sum, it becomes the group's last owner, and gloo's destructor,
    which waits for that very thread, ends the process.
    """
    time.sleep(0.2)
    dist.destroy_process_group()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _together() else 0


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _together() else 1


def by_first_rank(work: Callable[[], Any]) -> None:
    """Rank 0 does it; all go on when it is done."""
    if rank() == 0:
        work()
    if ranks() > 1:
        total(torch.zeros(()))  # a barrier that needs no device


def total(x: Tensor) -> Tensor:
    """The sum over ranks, without gradient; alone, `x` itself."""
    if ranks() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def anywhere(*flags: bool) -> list[bool]:
    """Which of these hold on at least one rank."""
    return [bool(count) for count in total(torch.tensor(flags, dtype=torch.int32))]


def gathered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, of which each rank may hold a part; the first rank alone gets them."""
    mine: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if rank() == 0:
            mine[name] = full.detach().cpu()
    return mine


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each rank may hold a part, on all ranks."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


class Objective(nn.Module):
    """Model and loss in one, since DDP and FSDP act on the calls of a module."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self.model, batch)

    @torch.no_grad()
    def lend(self, work: Callable[[Any], Any]) -> Any:
        """What some work without gradients makes of the whole model."""
        return work(self.model)


def parallel(objective: Objective, sharding: Sharding = "replicate") -> nn.Module:
    """The objective, whose gradients are averaged over ranks; the weights become rank 0's.

    Every parameter that learns must take part in the loss.
    """
    if ranks() == 1:
        return objective
    if sharding == "shard":
        from .sharding import shard  # late, as it takes half a second

        shard(objective)
        return objective
    return DistributedDataParallel(objective)


def postponed(objective: nn.Module, postpone: bool) -> AbstractContextManager:
    """A scope whose gradients stay on their rank, to be averaged with the next ones.

    Shards are averaged at once: a rank has no room for a whole gradient.
    """
    if postpone and isinstance(objective, DistributedDataParallel):
        return objective.no_sync()
    return nullcontext()
