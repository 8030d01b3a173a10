"""Supervised networks: pixels in, properties or classes out, nothing pretrained.

Shapes: B galaxies, V for validation, N to learn from, P outputs, L wavelength pixels; y and x are
pixels.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..device import autocast, resolve_device
from ..digest import digest
from ..image.preprocess import to_nanomaggies
from ..image.vit import SOFTENING, arcsinh
from ..progress import track
from ..survey.batches import BatchOrder
from ..survey.resample import fit
from ..survey.store import SurveyStore
from ..tasks.targets import TargetCode, Targets, ValTargets
from ..training.loop import TrainingConfig, train
from ..training.run import RunFolder
from .conv_att import ConvAtt, ConvAttConfig
from .resnet import ResNet, ResNetConfig

FAINTEST = 0.05  # 1e-17 erg/s/cm²/Å; what is fainter is not blown up
FEW = 1000  # labels, up to which networks and batches are smaller
EPOCHS, LEAST = 32, 1000  # of labels; steps
AT_ONCE = 256  # galaxies in memory while reading and predicting

Pixels = Shaped[np.ndarray, "B *_"]  # nanomaggies (3, y, x), or 1e-17 erg/s/cm²/Å (L,)
ValPixels = Shaped[np.ndarray, "V *_"]


@dataclass(frozen=True)
class SupervisedConfig:
    """A network, ResNet for images and Conv+Att for spectra, and its training."""

    network: ResNetConfig | ConvAttConfig
    training: TrainingConfig
    classes: TrainingConfig | None = None  # where those take another one than properties
    size: int = 72  # pixels of an image's centre


def resnet(labels: int, seed: int = 0) -> SupervisedConfig:
    """ResNet18 for a CPU, narrower where labels are few; AstroCLIP's has a width of 64."""
    network = ResNetConfig(width=16 if labels <= FEW else 32)
    properties = _training(labels, seed, 4600, weight_decay=0.05)
    return SupervisedConfig(network, properties, stretched(properties, 2))


def conv_att(labels: int, seed: int = 0) -> SupervisedConfig:
    """Conv+Att, twice as wide as AstroCLIP's."""
    network = ConvAttConfig(channels=(16, 32, 32, 64), hidden=(64, 64))
    return SupervisedConfig(network, _training(labels, seed, 2300, weight_decay=0.3))


def _training(labels: int, seed: int, most: int, weight_decay: float) -> TrainingConfig:
    """`EPOCHS`, but within `LEAST` and `most` steps (benchmarks/convergence.py)."""
    batch_size = 32 if labels <= FEW else 64
    steps = max(LEAST, min(most, EPOCHS * labels // batch_size))
    return TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=5e-3,
        weight_decay=weight_decay,
        warmup=steps // 10,
        ema=0.99,
        validate_every=50,
        patience=max(10, steps // 115),  # validations, .43 of all
        seed=seed,
    )


def stretched(training: TrainingConfig, times: int) -> TrainingConfig:
    """The whole schedule, in so many times the steps."""
    patience = training.patience and times * training.patience
    return replace(
        training, steps=times * training.steps, warmup=times * training.warmup, patience=patience
    )


class ImageNetwork(nn.Module):
    """ResNet on arcsinh of cutouts; turned and flipped at random while it learns."""

    def __init__(self, config: ResNetConfig, outputs: int):
        super().__init__()
        self.resnet = ResNet(config, outputs)

    def forward(self, flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, "B P"]:
        """Outputs from nanomaggies per pixel."""
        if self.training:
            flux = _turned(flux)
        flux = arcsinh(flux / SOFTENING)
        return self.resnet(flux.contiguous(memory_format=torch.channels_last))


class SpectrumNetwork(nn.Module):
    """Conv+Att on flux relative to its mean and on where each pixel is; the mean comes beside.

    AstroCLIP's has flux alone, which its first layer normalises: brightness is lost on it.
    """

    def __init__(self, config: ConvAttConfig, outputs: int):
        super().__init__()
        self.conv_att = ConvAtt(config, outputs, planes=2, extra=1)

    def forward(self, flux: Float[Tensor, "B L"]) -> Float[Tensor, "B P"]:
        """Outputs from spectra on a grid that all share, in 1e-17 erg/s/cm²/Å."""
        mean = flux.mean(dim=1, keepdim=True).clamp(min=FAINTEST)
        place = torch.linspace(-1, 1, flux.shape[1], device=flux.device).expand_as(flux)
        planes = torch.stack([(flux / mean - 1).clamp(-5, 20), place], dim=1)
        return self.conv_att(planes, mean.log())


class Supervised:
    """A network that has learned; predicts as the probes do."""

    def __init__(self, net: nn.Module, code: TargetCode):
        self._net, self._code = net, code

    def predict(self, x: Pixels) -> Targets:
        """Numbers, shape (B, P), or class names, shape (B,)."""
        place = next(self._net.parameters()).device
        return self._code.decode(_outputs(self._net, x, place).double().numpy())


@dataclass(frozen=True)
class SupervisedLearner:
    """Trains networks in run folders under `out`, where an interrupted training goes on."""

    config: SupervisedConfig
    out: Path
    device: str = "auto"

    def fit(self, x: Pixels, y: Targets, x_val: ValPixels, y_val: ValTargets) -> Supervised:
        """Trains on x and y, and stops early on x_val and y_val.

        A batch is at most half of the galaxies.
        """
        code, place = TargetCode.of(y), resolve_device(self.device)
        name, training = "properties", self.config.training
        if code.classes is not None:
            name, training = "classes", self.config.classes or training
        training = replace(training, batch_size=min(training.batch_size, len(x) // 2))
        target, target_val = (torch.from_numpy(code.encode(t)).float() for t in (y, y_val))
        config = {"stage": "supervised", **asdict(self.config), "targets": digest({"": target})}

        def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
            for rows in BatchOrder(np.arange(len(x)), **training.order(step)):
                yield _tensor(x[rows], place), target[rows].to(place)

        def validate(net: nn.Module) -> dict[str, float]:
            loss = code.loss(_outputs(net, x_val, place), target_val)
            return {"validation_loss": loss.item()}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            net = _network(self.config.network, code.outputs)
        net = train(
            net,
            lambda net, batch: code.loss(net(batch[0]).float(), batch[1]),
            batches,
            training,
            RunFolder(self.out / name, config),
            validate=validate,
            device=self.device,
            title=f"{self.out.name}, {name}",
        )
        return Supervised(net.eval(), code)


def read_pixels(
    store: SurveyStore, rows: Int[np.ndarray, "N"], config: SupervisedConfig
) -> Shaped[np.ndarray, "N *_"]:
    """What the network reads, in half precision: cutouts' centres, or spectra."""
    image = isinstance(config.network, ResNetConfig)
    field = "images" if image else "spectra"
    some = np.array_split(rows, -(-len(rows) // AT_ONCE))
    batches = (store.take(r, [field])[field] for r in track(some, f"read {field}", len(rows)))
    if image:
        batches = (fit(to_nanomaggies(b), config.size) for b in batches)
    return np.concatenate([b.filled().astype(np.float16) for b in batches])


def _network(config: ResNetConfig | ConvAttConfig, outputs: int) -> nn.Module:
    if isinstance(config, ResNetConfig):
        return ImageNetwork(config, outputs)
    return SpectrumNetwork(config, outputs)


def _turned(flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, "B 3 y x"]:
    """Each image in one of its eight orientations, at random."""
    for change in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.transpose(2, 3)):
        some = torch.rand(len(flux), 1, 1, 1, device=flux.device) < 0.5
        flux = torch.where(some, change(flux), flux)
    return flux


def _tensor(x: Pixels, place: torch.device) -> Tensor:
    return torch.from_numpy(x).to(place).float()


@torch.inference_mode()
def _outputs(net: nn.Module, x: Pixels, place: torch.device) -> Float[Tensor, "B P"]:
    with autocast(place):
        parts = [
            net(_tensor(x[i : i + AT_ONCE], place)).float().cpu() for i in range(0, len(x), AT_ONCE)
        ]
    return torch.cat(parts)
