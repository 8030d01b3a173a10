"""Transformer encoder for galaxy spectra (after SpecFormer, Parker et al. 2024, section 3).

Shapes: B spectra, L wavelength pixels, T tokens, D width.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..counts import require_counts
from ..survey.spectra import Spectra
from ..transformer import Block
from ..units import DESI_PIXELS
from .preprocess import as_tensors
from .stem import Patches, StandardStem, WeightedStem


@dataclass(frozen=True)
class SpectrumTransformerConfig:
    """Sizes of a spectrum transformer; the defaults are the paper's."""

    patch: int = 20  # pixels, 16 Å on the DESI grid
    stride: int = 10  # pixels between patch starts
    width: int = 768
    depth: int = 6
    heads: int = 6
    stem: Literal["weighted", "standard"] = "weighted"  # ours, or SpecFormer's
    causal: bool = False  # patches see bluer ones only, and the objective is the next one

    def __post_init__(self) -> None:
        require_counts(self, "patch", "stride", "width", "depth", "heads")

    @property
    def patches(self) -> int:
        """Patches of a spectrum on the DESI grid."""
        return (DESI_PIXELS - self.patch) // self.stride + 1


class SpectrumTransformer(nn.Module):
    """Encodes a spectrum into a vector for its brightness and one per patch."""

    def __init__(self, config: SpectrumTransformerConfig):
        super().__init__()
        self.config = config
        stem = WeightedStem if config.stem == "weighted" else StandardStem
        self.stem = stem(config.patch, config.stride, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, causal=config.causal) for _ in range(config.depth)
        )
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
        """Normalised spectra, cut into patches.

        Raises:
            ValueError: If they are shorter than one patch.
        """
        if flux.shape[1] < self.config.patch:
            raise ValueError(
                f"spectra of {flux.shape[1]} pixels are shorter than one patch of "
                f"{self.config.patch}"
            )
        return self.stem.patches(flux, ivar, wavelength)

    def read(self, spectra: Spectra) -> Patches:
        """Patches of a container, on this model's device."""
        place = self.norm.weight.device
        return self.patches(*(tensor.to(place) for tensor in as_tensors(spectra)))

    def encode(
        self, patches: Patches, hidden: Bool[Tensor, "B _"] | None = None
    ) -> Float[Tensor, "B _ D"]:
        """Tokens of patches; those marked in `hidden` are not seen."""
        x = self.stem(patches, hidden)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
