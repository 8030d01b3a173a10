"""MoCo v2 on galaxy images, as Stein et al. (2021) pretrain: a rival of self-distillation.

A network learns to find, among views of many galaxies, another view of the same one; the others
wait in a queue, embedded by a slow copy of the network (He et al. 2020; Chen et al. 2020).

Shapes: B galaxies, D embedding, Q places in the queue; y and x are pixels.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ..device import resolve_device
from ..image.distortions import moved, worse
from ..image.vit import SOFTENING, arcsinh
from ..survey.batches import BatchOrder
from ..survey.synthetic.milkyway import BAND_EXTINCTION
from ..tasks.network import mlp
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder
from .resnet import ResNet, ResNetConfig

AT_ONCE = 256  # galaxies that are embedded together


@dataclass(frozen=True)
class MocoConfig:
    """Sizes and schedules; queue and momentum suit some ten thousand galaxies."""

    training: TrainingConfig
    network: ResNetConfig = field(default_factory=ResNetConfig)
    embedding: int = 128
    queue: int = 4096
    momentum: float = 0.99  # of the slow copy
    temperature: float = 0.2
    size: int = 72  # pixels of a view
    jitter: int = 7  # pixels, and so much are Stein's other changes:
    zoom: float = 0.1
    reddening: float = 0.05  # E(B-V) in the median


class Moco(nn.Module):
    """The network, its slow copy, and the queue."""

    queue: Tensor
    place: Tensor
    fresh: Tensor

    def __init__(self, config: MocoConfig):
        super().__init__()
        self.config = config
        self.network = ResNet(config.network, config.embedding)
        before = config.network.features
        self.network.fc = mlp([before, before, config.embedding], nn.ReLU)
        self.slow = deepcopy(self.network).requires_grad_(False)
        queue = F.normalize(torch.randn(config.queue, config.embedding), dim=1)
        self.register_buffer("queue", queue)
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("fresh", queue[:0], persistent=False)  # keys of this step

    def loss(self, flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, ""]:
        """Cross-entropy of the true partner among itself and the queue, from two views each."""
        query = F.normalize(self.network(_seen(view(flux, self.config))).float(), dim=1)
        with torch.no_grad():
            key = F.normalize(self.slow(_seen(view(flux, self.config))).float(), dim=1)
        own = (query * key).sum(dim=1, keepdim=True)
        logits = torch.cat([own, query @ self.queue.T], dim=1) / self.config.temperature
        self.fresh = key
        return F.cross_entropy(logits, self.place.new_zeros(len(logits)))  # their own come first

    @torch.no_grad()
    def follow(self) -> None:
        """After a step: the slow copy follows, and new keys take the place of the oldest."""
        for slow, fast in zip(self.slow.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.config.momentum)
        fresh, places = len(self.fresh), len(self.queue)
        self.queue[(self.place + torch.arange(fresh, device=self.place.device)) % places] = (
            self.fresh
        )
        self.place.add_(fresh).remainder_(places)

    @torch.inference_mode()
    def embed(self, flux: Shaped[np.ndarray, "B 3 y x"]) -> Float[np.ndarray, "B D"]:
        """What the network sees before its head, of the cutouts' centres."""
        self.eval()
        vectors = []
        for part in np.array_split(flux, -(-len(flux) // AT_ONCE)):
            whole = torch.from_numpy(part).to(self.place.device).float()
            vectors.append(self.network.features(_seen(_centre(whole, self.config.size))))
        return torch.cat(vectors).cpu().numpy()


def train_moco(
    flux: Shaped[np.ndarray, "B 3 y x"], config: MocoConfig, out: Path, *, device: str = "auto"
) -> Moco:
    """Learns from cutouts [nanomaggies], or goes on in the run folder `out`."""
    place, training = resolve_device(device), config.training

    def batches(step: int) -> Iterator[Tensor]:
        for rows in BatchOrder(np.arange(len(flux)), **training.order(step)):
            yield torch.from_numpy(flux[rows]).to(place).float()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        moco = Moco(config)
    return train(
        moco,
        lambda moco, batch: moco.loss(batch),
        batches,
        training,
        RunFolder(out, {"stage": "moco", **asdict(config), "rows": len(flux)}),
        after_step=lambda moco: moco.follow(),
        device=device,
        title="MoCo v2",
    )


def view(flux: Float[Tensor, "B 3 y x"], config: MocoConfig) -> Float[Tensor, "B 3 v u"]:
    """Redder, turned by any angle, a little larger or smaller, shifted, blurred and noisier."""
    n = len(flux)
    reddening = config.reddening * torch.randn(n, 1, device=flux.device).exp()
    extinction = torch.tensor(BAND_EXTINCTION, dtype=flux.dtype, device=flux.device)
    flux = flux * (10 ** (-0.4 * reddening * extinction))[..., None, None]
    side, zoom = flux.shape[-1], 1 + config.zoom * (2 * torch.rand(n) - 1)
    flux = moved(flux, config.size, config.size / side * zoom, 2 * config.jitter / side)
    return worse(flux)


def _centre(flux: Float[Tensor, "B 3 y x"], size: int) -> Float[Tensor, "B 3 v u"]:
    top, left = (flux.shape[2] - size) // 2, (flux.shape[3] - size) // 2
    return flux[:, :, top : top + size, left : left + size]


def _seen(flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, "B 3 y x"]:
    return arcsinh(flux / SOFTENING).contiguous(memory_format=torch.channels_last)
