"""Vision transformer for galaxy cutouts (Dosovitskiy et al. 2021).

Shapes: B images, T tokens, P patches, D width; y and x are pixels, i and j rows and columns of
patches.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..counts import require_counts
from ..transformer import Block, StochasticDepth, sincos_position

SOFTENING = 0.01  # nanomaggies per pixel, near the sky noise
NUDGE = 0.1  # patches; DINOv2 adds it to the grid's size, and its sampling points depend on it


@dataclass(frozen=True)
class VisionTransformerConfig:
    """What an image transformer sees, and its sizes: those of the paper's ViT-L/12."""

    size: int = 144  # pixels; the centre of a larger cutout is used
    patch: int = 12
    width: int = 1024
    depth: int = 24
    heads: int = 16
    colours: Literal["flux", "rgb"] = "flux"  # nanomaggies and mask, or the viewer's picture
    positions: Literal["sky", "learned", "none"] = "sky"
    class_token: bool = False  # one more token, before the patches, for the whole image
    layer_scale: float | None = None  # where the branches' factors start; None for no factors
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        require_counts(self, "size", "patch", "width", "depth", "heads")

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.size // self.patch) ** 2


class VisionTransformer(nn.Module):
    """Encodes a cutout into one vector per patch, and one before them if there is a class token.

    Flux enters through arcsinh, so that faint outskirts and bright cores both show. Positions on
    the sky are in arcsec from the centre, so that pixel scales may differ; learned ones (DINOv2,
    Oquab et al. 2023) are interpolated to images of other sizes.
    """

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        if config.size % config.patch:
            raise ValueError(f"size {config.size} is not a multiple of patch {config.patch}")
        self.config = config
        width = config.width
        planes = 4 if config.colours == "flux" else 3
        self.embed_patch = nn.Linear(planes * config.patch**2, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        if config.class_token:
            self.class_token = nn.Parameter(0.02 * torch.randn(width))
        if config.positions == "learned":
            self.position = nn.Parameter(
                0.02 * torch.randn(config.patches + config.class_token, width)
            )
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.layer_scale, config.norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, config.norm_eps)

    def forward(
        self,
        flux: Float[Tensor, "B 3 y x"],
        mask: Bool[Tensor, "B 3 y x"],
        pixel_scale: Float[Tensor, "B"],
        hidden: Bool[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """One vector per token: the class token if there is one, then patches row by row.

        Args:
            flux: Nanomaggies per pixel, masked pixels interpolated; or red, green and blue.
            mask: True where a pixel must not be trusted.
            pixel_scale: Arcsec per pixel.
            hidden: True for patches that the mask token replaces.
        """
        x = self._patches(flux, mask)
        if hidden is not None:
            x = torch.where(hidden[..., None], self.mask_token.to(x.dtype), x)
        if self.config.class_token:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        if self.config.positions == "sky":
            places = self._sky(pixel_scale, flux.shape[2:])
            x = x + F.pad(places, (0, 0, int(self.config.class_token), 0))
        elif self.config.positions == "learned":
            x = x + self._learned(flux.shape[2:])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def set_stochastic_depth(self, probability: float) -> None:
        """The chance with which each branch of each block is left out while training."""
        for module in self.modules():
            if isinstance(module, StochasticDepth):
                module.probability = probability

    def _patches(
        self, flux: Float[Tensor, "B 3 y x"], mask: Bool[Tensor, "B 3 y x"]
    ) -> Float[Tensor, "B P D"]:
        p = self.config.patch
        if flux.shape[2] % p or flux.shape[3] % p:
            raise ValueError(
                f"expected images whose sides are multiples of the patch, {p} pixels, got "
                f"{tuple(flux.shape[2:])}; crop or pad them with survey.resample.fit first"
            )
        weight, bias = self.embed_patch.weight, self.embed_patch.bias
        if self.config.colours == "rgb":
            return F.linear(_cut(flux, p), weight, bias)
        colours, masked = weight.split([3 * p * p, p * p], dim=1)
        x = F.linear(_cut(arcsinh(flux / SOFTENING), p), colours, bias)
        if mask.device.type == "cpu" and not mask.any():  # a GPU would have to wait for the answer
            return x
        return x + F.linear(_cut(mask.any(1, keepdim=True).to(flux.dtype), p), masked)

    def _sky(self, pixel_scale: Float[Tensor, "B"], shape: torch.Size) -> Float[Tensor, "B P D"]:
        i, j = (n // self.config.patch for n in shape)
        down, across = (
            sincos_position(
                pixel_scale[:, None].float() * self._offsets(n, pixel_scale.device),
                self.config.width // 2,
                4.0,
                200.0,
            )
            for n in (i, j)
        )
        down = down[:, :, None].expand(-1, i, j, -1)
        across = across[:, None].expand(-1, i, j, -1)
        return rearrange(torch.cat([down, across], -1), "B i j D -> B (i j) D")

    def _offsets(self, n: int, device: torch.device) -> Float[Tensor, "N"]:
        """Centres of n patches in a row, in pixels from their middle."""
        return self.config.patch * (torch.arange(n, device=device) - (n - 1) / 2)

    def _learned(self, shape: torch.Size) -> Float[Tensor, "T D"]:
        """The learned positions, bicubically interpolated unless the image has their size."""
        n = self.config.size // self.config.patch
        i, j = (side // self.config.patch for side in shape)
        if (i, j) == (n, n):
            return self.position
        first, grid = self.position.split([len(self.position) - n * n, n * n])
        grid = rearrange(grid, "(i j) D -> 1 D i j", i=n)
        scale = ((i + NUDGE) / n, (j + NUDGE) / n)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([first, rearrange(grid, "1 D i j -> (i j) D")])


def _cut(x: Float[Tensor, "B C y x"], p: int) -> Float[Tensor, "B P N"]:
    """Patches row by row, all numbers of one side by side."""
    return rearrange(x, "B C (i p) (j q) -> B (i j) (C p q)", p=p, q=p)


def arcsinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine; on a CPU by NumPy, ten times faster than `torch.asinh`."""
    if x.device.type == "cpu" and not x.requires_grad:
        return torch.from_numpy(np.arcsinh(x.numpy()))
    return torch.asinh(x)
