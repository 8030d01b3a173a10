"""Causal modelling: a spectrum transformer learns to predict the next patch from the bluer ones.

The other self-supervised objective of sequences (Radford et al. 2018), beside masked modelling.

Shapes: B spectra, T patches, P pixels of a patch; N predicted patches.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..survey.spectra import Spectra
from .masked import weighted_error
from .stem import Patches, WeightedStem
from .transformer import SpectrumTransformer, SpectrumTransformerConfig


class CausalModel(nn.Module):
    """A causal spectrum transformer with a linear head that predicts the next patch.

    Where patches overlap, the next one is the first that shares no pixel with those seen. The
    spectrum's scale is known from the start: flux is relative to it.

    Raises:
        ValueError: If the transformer sees redder patches, which would tell the answer.
    """

    def __init__(self, config: SpectrumTransformerConfig):
        super().__init__()
        if not config.causal:
            raise ValueError("expected a causal transformer: set `causal` of its configuration")
        self.ahead = -(-config.patch // config.stride)
        self.trunk = SpectrumTransformer(config)
        if isinstance(self.trunk.stem, WeightedStem):
            self.trunk.stem.mask_token.requires_grad_(False)  # nothing is hidden here
        self.head = nn.Linear(config.width, self.trunk.stem.row)

    def forward(self, patches: Patches) -> Float[Tensor, "B N P"]:
        """Predicted flux of all patches but the first few."""
        tokens = self.trunk.encode(patches)[:, -patches.flux.shape[1] :]
        return self.head(tokens[:, : -self.ahead])

    def loss(self, spectra: Spectra) -> Float[Tensor, ""]:
        """Error of all predictions, weighted by inverse variance."""
        patches = self.trunk.read(spectra)
        flux, weight = (x[:, self.ahead :] for x in (patches.flux, patches.weight))
        return weighted_error(self(patches), flux, weight)

    @torch.no_grad()
    def validate(self, spectra: Spectra) -> dict[str, float]:
        """Loss on these spectra."""
        return {"validation_loss": self.loss(spectra).item()}
