"""Transformer encoder for galaxy spectra (after SpecFormer, Parker et al. 2024, section 3).

Shapes: B spectra, L wavelength pixels, P pixels of a patch, T patches, D width.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..transformer import Block, sincos_position


@dataclass(frozen=True)
class SpectrumTransformerConfig:
    """Sizes of a spectrum transformer; the defaults are the paper's."""

    patch: int = 20  # pixels, 16 Å on the DESI grid
    stride: int = 10  # pixels between patch starts
    width: int = 768
    depth: int = 6
    heads: int = 6


class Patches(NamedTuple):
    """A spectrum as the network sees it, cut into patches."""

    flux: Float[Tensor, "B T P"]  # relative to the median, minus 1
    weight: Float[Tensor, "B T P"]  # inverse variance of `flux`; 0 where masked
    position: Float[Tensor, "#B T"]  # ln(wavelength) of the centre
    scale: Float[Tensor, "B 2"]  # brightness and signal-to-noise, both logarithmic


class SpectrumTransformer(nn.Module):
    """Encodes a spectrum into a vector for its brightness and one per patch.

    Flux is divided by its median, which keeps lines and continuum shape; token 0 gives the
    brightness back. Each pixel comes with how well it is known, each patch with its absolute
    wavelength, so that grids and instruments may differ.
    """

    def __init__(self, config: SpectrumTransformerConfig):
        super().__init__()
        self.config = config
        self.embed_patch = nn.Linear(2 * config.patch, config.width)
        self.embed_scale = nn.Linear(2, config.width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        flux: Float[Tensor, "B L"],
        ivar: Float[Tensor, "B L"],
        wavelength: Float[Tensor, "#B L"],
    ) -> Float[Tensor, "B T D"]:
        """One vector per token: brightness first, then patches from blue to red.

        Args:
            flux: 1e-17 erg/s/cm²/Å, masked pixels interpolated.
            ivar: Inverse variance of `flux`; 0 marks a masked pixel.
            wavelength: Å, vacuum, observed frame.
        """
        return self.encode(self.patches(flux, ivar, wavelength))

    def patches(
        self,
        flux: Float[Tensor, "B L"],
        ivar: Float[Tensor, "B L"],
        wavelength: Float[Tensor, "#B L"],
    ) -> Patches:
        """Cuts normalised spectra into patches; pixels left over at the red end are dropped."""
        if flux.shape[1] < self.config.patch:
            raise ValueError(
                f"spectra of {flux.shape[1]} pixels are shorter than one patch of "
                f"{self.config.patch}"
            )
        good = ivar > 0
        median = flux.where(good, torch.nan).nanmedian(1, keepdim=True).values
        noise = ivar.where(good, torch.nan).nanmedian(1, keepdim=True).values.rsqrt()
        scale = torch.maximum(median, noise)  # an empty spectrum must not blow up
        relative = (flux / scale - 1).clamp(-5, 20)
        cut = (self.config.patch, self.config.stride)
        return Patches(
            flux=relative.unfold(1, *cut),
            weight=(ivar * scale**2).unfold(1, *cut),
            position=wavelength.log().unfold(1, *cut).mean(-1),
            scale=torch.cat([scale.log(), (scale / noise).log()], dim=1),
        )

    def encode(
        self, patches: Patches, hidden: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B _ D"]:
        """Tokens of patches; those marked in `hidden` are replaced by the mask token."""
        known = patches.weight / (1 + patches.weight)
        x = self.embed_patch(torch.cat([patches.flux * (known > 0), known], dim=-1))
        if hidden is not None:
            x = torch.where(hidden[..., None], self.mask_token.to(x.dtype), x)
        # a shift of ln(wavelength) by 1 is more than the whole window; 1e-3 is a narrow line
        x = x + sincos_position(patches.position, self.config.width, 2e-3, 2.0)
        x = torch.cat([self.embed_scale(patches.scale)[:, None], x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
