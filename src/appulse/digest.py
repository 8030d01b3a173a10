"""Short names for contents: equal contents, equal name."""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor


def digest(tensors: dict[str, Tensor], length: int = 16) -> str:
    """A short name for a set of tensors: equal tensors, equal name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        sha.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:length]


def digest_of(content: Any, length: int = 12) -> str:
    """A short name for whatever can be JSON: equal content, equal name."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]
