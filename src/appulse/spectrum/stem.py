"""From pixels to tokens: how a spectrum transformer normalises, cuts and embeds a spectrum.

Shapes: B spectra, L wavelength pixels, N patches, T rows to embed, P numbers in a row, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..transformer import sincos_position

LEAST_STD = 0.2  # 1e-17 erg/s/cm²/Å; SpecFormer's bound on the scatter it divides by


class Patches(NamedTuple):
    """A spectrum as the network sees it, cut into rows of numbers."""

    flux: Float[Tensor, "B T P"]  # normalised
    weight: Float[Tensor, "B T P"]  # what an error of `flux` counts; 0 where masked
    position: Float[Tensor, "#B N"]  # ln(wavelength) of each patch's centre
    scale: Float[Tensor, "B 2"]  # what the normalisation took away


class WeightedStem(nn.Module):
    """Flux relative to the median, with how well each pixel is known, at absolute wavelengths.

    Grids and instruments may differ. The scale becomes a token of its own, before the patches.
    """

    def __init__(self, patch: int, stride: int, width: int):
        super().__init__()
        self.cut, self.width, self.row = (patch, stride), width, patch
        self.embed_patch = nn.Linear(2 * patch, width)
        self.embed_scale = nn.Linear(2, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))

    def patches(
        self,
        flux: Float[Tensor, "B L"],
        ivar: Float[Tensor, "B L"],
        wavelength: Float[Tensor, "#B L"],
    ) -> Patches:
        """Weights are inverse variances; pixels left over at the red end are dropped."""
        good = ivar > 0
        median = flux.where(good, torch.nan).nanmedian(1, keepdim=True).values
        noise = ivar.where(good, torch.nan).nanmedian(1, keepdim=True).values.rsqrt()
        scale = torch.maximum(median, noise)  # an empty spectrum must not blow up
        relative = (flux / scale - 1).clamp(-5, 20)
        return Patches(
            flux=relative.unfold(1, *self.cut),
            weight=(ivar * scale**2).unfold(1, *self.cut),
            position=wavelength.log().unfold(1, *self.cut).mean(-1),
            scale=torch.cat([scale.log(), (scale / noise).log()], dim=1),
        )

    def forward(
        self, patches: Patches, hidden: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B _ D"]:
        """Tokens: scale first, then patches; hidden ones are replaced by the mask token."""
        known = patches.weight / (1 + patches.weight)
        x = self.embed_patch(torch.cat([patches.flux * (known > 0), known], dim=-1))
        if hidden is not None:
            x = torch.where(hidden[..., None], self.mask_token.to(x.dtype), x)
        # a shift of ln(wavelength) by 1 is more than the whole window; 1e-3 is a narrow line
        x = x + sincos_position(patches.position, self.width, 2e-3, 2.0)
        return torch.cat([self.embed_scale(patches.scale)[:, None], x], dim=1)


class StandardStem(nn.Module):
    """SpecFormer's: standardised flux in rows of two zeros and a patch, numbered from blue to red.

    Row 0 holds mean and scatter in place of the zeros and no patch (Parker et al. 2024, section
    3.2). As published, the last patch is dropped even where it is whole, and neither inverse
    variance nor wavelength is seen.
    """

    def __init__(self, patch: int, stride: int, width: int, longest: int = 800):
        super().__init__()
        self.cut, self.row = (patch, stride), patch + 2
        self.embed_row = nn.Linear(self.row, width)
        self.position = nn.Parameter(0.02 * torch.randn(longest, width))

    def patches(
        self,
        flux: Float[Tensor, "B L"],
        ivar: Float[Tensor, "B L"],
        wavelength: Float[Tensor, "#B L"],
    ) -> Patches:
        """Numbers that are exactly 0, as padding is, weigh nothing in the paper's loss."""
        patch, stride = self.cut
        n = -(-(flux.shape[1] - patch + stride) // stride) - 1
        mean, std = flux.mean(1, keepdim=True), flux.std(1, keepdim=True).clamp(min=LEAST_STD)
        scale = torch.cat([(mean - 2) / 2, (std - 2) / 8], dim=1)
        standard = ((flux - mean) / std).unfold(1, *self.cut)[:, :n]
        rows = F.pad(standard, (2, 0, 1, 0))
        rows[:, 0, :2] = scale
        position = wavelength.log().unfold(1, *self.cut)[:, :n].mean(-1)
        return Patches(rows, (rows != 0).to(rows.dtype), position, scale)

    def forward(
        self, patches: Patches, hidden: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Tokens: mean and scatter first, then patches; hidden rows are read as zeros."""
        rows = patches.flux if hidden is None else patches.flux * ~hidden[..., None]
        if rows.shape[1] > len(self.position):
            raise ValueError(
                f"spectra make {rows.shape[1]} tokens, the model has {len(self.position)} "
                "positions; expected shorter spectra, such as 7781 pixels on the DESI grid"
            )
        return self.embed_row(rows) + self.position[: rows.shape[1]]
