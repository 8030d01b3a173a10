"""Contrastive learning of images: a view finds the other one of its galaxy (Chen et al. 2020).

In a few hundred steps self-distillation (dino.py) says no more than random weights, and this much
(benchmarks/image_pretraining.py), so the recipe for a laptop learns by it. Views differ in
brightness and colour too, as the galaxy does not: photometry says those better, and the
transformer is left with shapes. The loss is that of alignment, negatives come from all ranks.

Shapes: B galaxies, D width, E embedding; y and x are pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..metrics import partner_ranks, recall_at_k
from ..survey.images import Images
from ..training.contrastive import contrastive_loss, joint_contrastive_loss
from ..units import PIXEL_SCALE
from .distortions import moved, worse
from .preprocess import image_flux
from .vit import VisionTransformer, VisionTransformerConfig


@dataclass(frozen=True)
class ContrastConfig:
    """How views of a galaxy differ, and what compares them."""

    shift: float = 4.0  # pixels along either axis, at most
    zoom: float = 0.1  # so much larger or smaller, at most
    brightness: float = 0.7  # magnitudes, standard deviation, of all bands together
    colour: float = 0.2  # and of each band
    inverse_temperature: float = 5.0
    hidden: int = 256  # sizes of the projection
    embedding: int = 64


class Contrast(nn.Module):
    """The trunk, and a projection of its class token that is left behind afterwards."""

    def __init__(self, trunk: VisionTransformerConfig, config: ContrastConfig):
        super().__init__()
        if not trunk.class_token or trunk.colours != "flux":
            raise ValueError(
                f"views are compared by a class token, and made of flux; the trunk is {trunk}"
            )
        self.config = config
        self.trunk = VisionTransformer(trunk)
        self.trunk.mask_token.requires_grad_(False)  # nothing is hidden here
        self.project = nn.Sequential(
            nn.Linear(trunk.width, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.embedding),
        )

    def loss(self, flux: Float[Tensor, "B 3 y x"]) -> Float[Tensor, ""]:
        """Symmetric InfoNCE between two views of each galaxy [nanomaggies]."""
        return joint_contrastive_loss(*self._views(flux), self.config.inverse_temperature)

    @torch.no_grad()
    def validate(self, images: Images) -> dict[str, float]:
        """Loss on fixed views of these, and how often a view's nearest is the one of its galaxy."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            flux = image_flux(images).to(self.trunk.norm.weight.device)
            first, second = self._views(flux)
        loss = contrastive_loss(first, second, self.config.inverse_temperature)
        cosine = F.normalize(first) @ F.normalize(second).T
        found = recall_at_k(partner_ranks(cosine.cpu().numpy()), 1)
        return {"validation_loss": loss.item(), "found": found}

    def _views(self, flux: Float[Tensor, "B 3 y x"]) -> tuple[Tensor, Tensor]:
        """Projections of both, (B, E) each."""
        size = self.trunk.config.size
        seen = torch.cat([view(flux, size, self.config) for _ in range(2)])
        scale = seen.new_full((len(seen),), PIXEL_SCALE)
        tokens = self.trunk(seen, torch.zeros_like(seen, dtype=torch.bool), scale)
        first, second = self.project(tokens[:, 0]).float().chunk(2)
        return first, second


def view(
    flux: Float[Tensor, "B 3 y x"], size: int, config: ContrastConfig
) -> Float[Tensor, "B 3 v u"]:
    """Square cutouts turned by any angle, moved, zoomed, of other brightness, colour and depth."""
    n, side = len(flux), flux.shape[-1]
    zoom = 1 + config.zoom * (2 * torch.rand(n) - 1)
    flux = moved(flux, size, size / side * zoom, 2 * config.shift / side)
    magnitudes = config.brightness * torch.randn(n, 1) + config.colour * torch.randn(n, 3)
    return worse(flux * (10 ** (-0.4 * magnitudes))[..., None, None].to(flux.device))
