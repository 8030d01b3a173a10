"""Self-distillation of an image transformer: DINOv2 (Oquab et al. 2023), as AstroDINO uses it.

A student sees crops, some with hidden patches; a teacher, the running mean of the student, sees
the two whole crops. The student learns what the teacher says of the same galaxy.

On several ranks centres and Sinkhorn's sums are those of the joint batch, and gradients are
averaged. KoLeo looks for the nearest vector on its own rank only, as upstream, and masks are drawn
for each rank's images, so that their shares are spread evenly within a rank. Of a step in pieces,
each piece moves the centres.

Shapes: W whole crops, two a galaxy, C crops of one size, P patches, M masked ones, D width,
K prototypes.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..survey.images import Images
from ..training.groups import Group
from ..training.schedules import CosineSchedule
from ..units import PIXEL_SCALE
from .augment import CropConfig
from .dino_head import DinoHead, DinoHeadConfig
from .dino_loss import Centering, dino_loss, ibot_loss, koleo_loss, sinkhorn
from .masking import BlockMaskConfig
from .preprocess import image_flux
from .views import Views, random_views
from .vit import VisionTransformer, VisionTransformerConfig

_NO_DECAY = re.compile(r"bias$|norm|gamma|length")
KOLEO = 0.1  # weight of the loss that spreads class tokens


@dataclass(frozen=True)
class DinoConfig:
    """Views, masks, head and schedules; the defaults are AstroDINO's, 1250 steps an epoch."""

    crops: CropConfig = field(default_factory=CropConfig)
    masks: BlockMaskConfig = field(default_factory=BlockMaskConfig)
    head: DinoHeadConfig = field(default_factory=DinoHeadConfig)
    teacher: Literal["centering", "sinkhorn"] = "centering"
    momentum: float = 0.992  # of the teacher, up to 1 at the end
    temperature: tuple[float, float] = (0.04, 0.07)  # of the teacher, over the warm-up
    warmup: int = 37_500  # steps of the temperature
    stochastic_depth: float = 0.3  # of the student

    @property
    def temperatures(self) -> CosineSchedule:
        """The teacher's temperature at each step."""
        first, last = self.temperature
        return CosineSchedule(last, last, self.warmup, self.warmup, first)


class Network(nn.Module):
    """A trunk and a head: the student, and the teacher."""

    def __init__(self, trunk: VisionTransformerConfig, head: DinoHeadConfig):
        super().__init__()
        self.trunk = VisionTransformer(trunk)
        self.head = DinoHead(head, trunk.width)

    def tokens(
        self, crops: Float[Tensor, "C 3 y x"], hidden: Bool[Tensor, "C P"] | None = None
    ) -> tuple[Float[Tensor, "C D"], Float[Tensor, "C P D"]]:
        """Class tokens and patch tokens."""
        seen = torch.zeros_like(crops, dtype=torch.bool)
        scale = crops.new_full((len(crops),), PIXEL_SCALE)
        tokens = self.trunk(crops, seen, scale, hidden)
        return tokens[:, 0], tokens[:, 1:]


class Dino(nn.Module):
    """Student, teacher, and how many of a run's steps are taken."""

    step: Tensor

    def __init__(self, trunk: VisionTransformerConfig, config: DinoConfig, steps: int):
        super().__init__()
        if not trunk.class_token:
            raise ValueError(f"self-distillation needs a class token; the trunk has none: {trunk}")
        self.config, self.momenta = config, CosineSchedule(config.momentum, 1.0, steps)
        self.student = Network(trunk, config.head)
        self.teacher = deepcopy(self.student).requires_grad_(False)
        self.student.trunk.set_stochastic_depth(config.stochastic_depth)
        self.center_images = Centering(config.head.prototypes)
        self.center_patches = Centering(config.head.prototypes)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def loss(self, flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, ""]:
        """What a step goes down: DINO of whole and local crops, KoLeo and iBOT [nanomaggies]."""
        return torch.stack(list(self.losses(self.views(flux)).values())).sum()

    def views(self, flux: Float[Tensor, "B 3 y x"]) -> Views:
        """Random ones of these galaxies."""
        return random_views(flux, self.student.trunk.config, self.config.crops, self.config.masks)

    def losses(self, views: Views) -> dict[str, Float[Tensor, ""]]:
        """Each part of the loss, weighted as in the sum."""
        temperature = self.config.temperatures(int(self.step))
        teacher_images, teacher_patches = self._teach(views, temperature)
        images, patches = self.student.tokens(views.whole, views.hidden)
        parts, _ = self.student.tokens(views.parts)
        b, c = len(images), len(parts)
        logits = self.student.head(torch.cat([parts, images, patches[views.hidden]]))
        parts, whole, patches = logits.split([c, b, len(logits) - c - b])
        locals_ = len(parts) // (b // 2)
        pairs = 2 * locals_ + 2  # of a student's and a teacher's view
        weight = 1 / views.hidden.sum(1).clamp(min=1)[:, None].expand_as(views.hidden)
        return {
            "local": dino_loss(parts.chunk(locals_), teacher_images.chunk(2)) / pairs
            if locals_
            else logits.new_zeros(()),
            "global": dino_loss([whole], [teacher_images]) * 2 / pairs,
            "koleo": KOLEO * torch.stack([koleo_loss(x) for x in images.chunk(2)]).sum(),
            "ibot": ibot_loss(patches, teacher_patches, weight[views.hidden], b),
        }

    @torch.no_grad()
    def _teach(
        self, views: Views, temperature: float
    ) -> tuple[Float[Tensor, "W K"], Float[Tensor, "M K"]]:
        """Probabilities of the whole crops, each galaxy's other one, and of the hidden patches."""
        self.teacher.eval()
        images, patches = self.teacher.tokens(views.whole)
        swapped = torch.cat(images.chunk(2)[::-1])
        logits = self.teacher.head(torch.cat([swapped, patches[views.hidden]]))
        images, patches = logits.split([len(swapped), len(logits) - len(swapped)])
        if self.config.teacher == "sinkhorn":
            return sinkhorn(images, temperature), sinkhorn(patches, temperature)
        return self.center_images(images, temperature), self.center_patches(patches, temperature)

    @torch.no_grad()
    def validate(self, images: Images) -> dict[str, float]:
        """Loss on fixed views of these, and how far apart class tokens lie: 0 is collapse.

        `spread` is the mean standard deviation of a unit vector's entries times the root of
        their number: 1 where all directions are equally likely.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            seen = self.views(image_flux(images).to(self.step.device))
        centres = [module.center.clone() for module in (self.center_images, self.center_patches)]
        value = torch.stack(list(self.losses(seen).values())).sum()
        self.center_images.center.copy_(centres[0])
        self.center_patches.center.copy_(centres[1])
        tokens = F.normalize(self.teacher.tokens(seen.whole)[0], dim=1)
        spread = tokens.std(0).mean() * tokens.shape[1] ** 0.5
        return {"validation_loss": value.item(), "spread": spread.item()}

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Moves the teacher towards the student; once after each step of the optimiser."""
        move = get_ema_multi_avg_fn(self.momenta(int(self.step)))
        move(list(self.teacher.parameters()), list(self.student.parameters()), self.step)
        self.step += 1


def parameter_groups(model: Dino, decay: float = 0.9, embedding: float = 0.2) -> list[Group]:
    """The student's parameters with factors on learning rate and weight decay.

    Layers nearer the pixels learn more slowly by `decay` each (Bao et al. 2022), the patch
    embedding by `embedding` more; biases, norms and layer scales do not decay.
    """
    depth = model.student.trunk.config.depth
    return [
        Group(
            parameter,
            _rate(name, depth, decay, embedding),
            float(not _NO_DECAY.search(name)),
            name in ("head.direction", "head.length"),
        )
        for name, parameter in model.student.named_parameters()
    ]


def _rate(name: str, depth: int, decay: float, embedding: float) -> float:
    if not name.startswith("trunk.") or name.startswith("trunk.norm."):
        return 1.0
    if name.startswith("trunk.blocks."):
        return decay ** (depth - int(name.split(".")[2]))
    return decay ** (depth + 1) * (embedding if "embed_patch" in name else 1.0)
