"""Vision transformer for galaxy cutouts (Dosovitskiy et al. 2021).

Shapes: B images, T patches, D width; y and x are pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..transformer import Block, sincos_position

SOFTENING = 0.01  # nanomaggies per pixel, near the sky noise


@dataclass(frozen=True)
class VisionTransformerConfig:
    """Sizes of an image transformer; the defaults are the paper's ViT-L/12."""

    size: int = 144  # pixels; the centre of a larger cutout is used
    patch: int = 12
    width: int = 1024
    depth: int = 24
    heads: int = 16


class VisionTransformer(nn.Module):
    """Encodes a cutout into one vector per patch.

    Flux enters through arcsinh, so that faint outskirts and bright cores both show; positions are
    in arcsec from the centre, so that pixel scales may differ.
    """

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        if config.size % config.patch:
            raise ValueError(f"size {config.size} is not a multiple of patch {config.patch}")
        self.config = config
        self.embed_patch = nn.Linear(4 * config.patch**2, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        flux: Float[Tensor, "B 3 y x"],
        mask: Bool[Tensor, "B 3 y x"],
        pixel_scale: Float[Tensor, "B"],
    ) -> Float[Tensor, "B T D"]:
        """One vector per patch, row by row.

        Args:
            flux: Nanomaggies per pixel, (B, 3, size, size), masked pixels interpolated.
            mask: True where a pixel must not be trusted.
            pixel_scale: Arcsec per pixel.
        """
        size, patch = self.config.size, self.config.patch
        if flux.shape[2:] != (size, size):
            raise ValueError(
                f"expected images of {size} x {size} pixels, got {tuple(flux.shape[2:])}; "
                "crop or pad them with survey.resample.fit first"
            )
        planes = arcsinh(flux / SOFTENING)
        x = torch.cat([planes, mask.any(1, keepdim=True).to(flux.dtype)], dim=1)
        x = self.embed_patch(rearrange(x, "B C (i p) (j q) -> B (i j) (C p q)", p=patch, q=patch))
        x = x + self._positions(pixel_scale)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _positions(self, pixel_scale: Float[Tensor, "B"]) -> Float[Tensor, "B T D"]:
        size, patch = self.config.size, self.config.patch
        centres = torch.arange(patch / 2, size, patch, device=pixel_scale.device) - size / 2
        offset = pixel_scale[:, None].float() * centres  # arcsec
        half = sincos_position(offset, self.config.width // 2, 4.0, 200.0)
        n = len(centres)
        down = half[:, :, None].expand(-1, n, n, -1)
        across = half[:, None].expand(-1, n, n, -1)
        return rearrange(torch.cat([down, across], -1), "B i j D -> B (i j) D")


def arcsinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine; on a CPU by NumPy, ten times faster than `torch.asinh`."""
    if x.device.type == "cpu" and not x.requires_grad:
        return torch.from_numpy(np.arcsinh(x.numpy()))
    return torch.asinh(x)
