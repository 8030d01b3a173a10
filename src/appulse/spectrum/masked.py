"""Masked modelling: a spectrum transformer learns to fill gaps (Parker et al. 2024, section 3.2).

Shapes: B spectra, T patches, P pixels of a patch, D width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..survey.spectra import Spectra
from .stem import Patches
from .transformer import SpectrumTransformer, SpectrumTransformerConfig

WEIGHT_LIMIT = 25.0  # beyond S/N 5 per pixel the model's own error counts, not the noise


@dataclass(frozen=True)
class MaskingConfig:
    """How much is hidden; the defaults are the paper's, for 777 patches."""

    chunks: int = 6
    width: int = 50  # patches in a chunk


class MaskedModel(nn.Module):
    """A spectrum transformer with a linear head that predicts the flux of hidden patches."""

    def __init__(self, config: SpectrumTransformerConfig, masking: MaskingConfig):
        super().__init__()
        self.masking = masking
        self.trunk = SpectrumTransformer(config)
        self.head = nn.Linear(config.width, self.trunk.stem.row)

    def forward(self, patches: Patches, hidden: Bool[Tensor, "B T"]) -> Float[Tensor, "B T P"]:
        """Predicted flux of every patch, from those that are not hidden."""
        return self.head(self.trunk.encode(patches, hidden)[:, -patches.flux.shape[1] :])

    def loss(self, spectra: Spectra) -> Float[Tensor, ""]:
        """Error on random hidden chunks of these spectra."""
        patches = self.trunk.read(spectra)
        rows, tokens, _ = patches.flux.shape
        hidden = hide_chunks(rows, tokens, self.masking).to(patches.flux.device)
        return masked_loss(self(patches, hidden), patches, hidden)

    @torch.no_grad()
    def validate(self, spectra: Spectra) -> dict[str, float]:
        """Loss on these spectra, the same chunks hidden each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return {"validation_loss": self.loss(spectra).item()}


def hide_chunks(rows: int, tokens: int, config: MaskingConfig) -> Bool[Tensor, "B T"]:
    """Marks runs of tokens, one at a random place in each equal stretch of the spectrum.

    Runs hide whole features; single patches could be guessed from their neighbours. Runs never
    overlap: exactly chunks * width tokens of each row are hidden.

    Raises:
        ValueError: If the runs do not fit.
    """
    chunks, width = config.chunks, config.width
    if chunks < 1 or width < 1 or chunks * width > tokens:
        raise ValueError(
            f"{chunks} chunks of {width} tokens do not fit {tokens} tokens; expected at least one "
            "of one token, and no more in all than there are"
        )
    room = tokens // chunks - width
    first = torch.arange(chunks) * tokens // chunks
    start = first + torch.randint(0, room + 1, (rows, chunks))
    place = torch.arange(tokens)[:, None] - start[:, None]
    return ((place >= 0) & (place < width)).any(-1)


def masked_loss(
    predicted: Float[Tensor, "B T P"], patches: Patches, hidden: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """`weighted_error` of hidden flux."""
    return weighted_error(predicted, patches.flux, patches.weight * hidden[..., None])


def weighted_error(
    predicted: Float[Tensor, "B T P"], flux: Float[Tensor, "B T P"], weight: Float[Tensor, "B T P"]
) -> Float[Tensor, ""]:
    """Mean squared error, weighted by inverse variance; masked pixels count 0.

    Weights are those of these rows: of several ranks or pieces of a step, each counts the same.
    """
    weight = weight.clamp(max=WEIGHT_LIMIT)
    error = (predicted.float() - flux).square()
    return (weight * error).sum() / weight.sum().clamp(min=1e-12)
