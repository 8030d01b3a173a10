"""Eigenspectra: what galaxies' spectra are made of, learned at rest without labels.

Shifted to rest by the dictionary, spectra of all redshifts line up, and a dozen components hold
most of what they say: principal components weighted by inverse variance, as in expectation
maximisation (Bailey 2012), with a normal prior on the coefficients (Tipping & Bishop 1999), so
that noise and gaps pull a coefficient to the mean instead of away.

Shapes: B spectra, L bins of the observed window, M bins at rest, K components.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..training.run import save_tensors
from .redshift import DICTIONARY, DictionaryConfig, ShiftDictionary, learn_dictionary, rebin

EIGENSPECTRA = "eigenspectra.safetensors"  # their place in a run folder
ENOUGH = 6000  # spectra to learn from
FAINTEST = 0.1  # noise of a bin; a median over thousands of bins is sure to less
WEIGHT_LIMIT = 100.0  # of a bin: a bright spectrum does not decide alone


@dataclass(frozen=True)
class EigenspectraConfig:
    """How many, how fine, and how long to learn them."""

    components: int = 10
    bins: int = 3  # of the dictionary's, in one of ours
    rounds: int = 10


class Eigenspectra(nn.Module):
    """A mean spectrum and components, scaled such that coefficients have unit variance."""

    mean: Tensor
    components: Tensor

    def __init__(self, config: EigenspectraConfig, length: int):
        """For templates of `length` bins of the dictionary."""
        super().__init__()
        self.config = config
        size = -(-length // config.bins)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.zeros(config.components, size))

    @torch.no_grad()
    def fit(
        self, flux: Float[Tensor, "B L"], ivar: Float[Tensor, "B L"], start: Float[Tensor, "B"]
    ) -> "Eigenspectra":
        """Learns mean and components.

        Args:
            flux: On the dictionary's grid.
            ivar: Inverse variance of `flux`; 0 marks a bin without data.
            start: First bin of each spectrum at rest.
        """
        x, weight = self._at_rest(flux, ivar, start)
        total = weight.sum(0)
        self.mean = (x * weight).sum(0) / (total + 1)
        rng = torch.Generator().manual_seed(0)
        random = torch.randn(self.components.shape, generator=rng)
        self.components = torch.linalg.qr(random.T).Q.T.contiguous()
        for _ in range(self.config.rounds):
            self.components = self._update(x - self.mean, weight)
        return self

    @torch.no_grad()
    def coefficients(
        self, flux: Float[Tensor, "B L"], ivar: Float[Tensor, "B L"], start: Float[Tensor, "B"]
    ) -> Float[Tensor, "B K"]:
        """Most probable coefficients of each spectrum, near N(0, 1); arguments as of `fit`."""
        x, weight = self._at_rest(flux, ivar, start)
        return self._solve(x - self.mean, weight)

    def measure(
        self, spectra: Spectra, dictionary: ShiftDictionary, shift: Float[np.ndarray, "B"]
    ) -> Float[np.ndarray, "B K"]:
        """Coefficients of spectra whose shifts the dictionary has measured."""
        flux, ivar = rebin(spectra, dictionary.config)
        start = torch.from_numpy(-shift / dictionary.config.bin)
        place = self.mean.device
        return self.coefficients(*(t.to(place) for t in (flux, ivar, start))).cpu().numpy()

    def _at_rest(
        self, flux: Float[Tensor, "B L"], ivar: Float[Tensor, "B L"], start: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"]]:
        """Flux relative to its median, in our bins at rest, and the weight of each bin."""
        seen = ivar > 0
        median = flux.where(seen, torch.nan).nanmedian(1, keepdim=True).values
        noise = ivar.where(seen, torch.nan).nanmedian(1, keepdim=True).values.rsqrt()
        scale = torch.maximum(median.abs(), FAINTEST * noise).nan_to_num(1.0)
        weight = ivar * scale**2
        size = len(self.mean)
        index = (
            start.round().long()[:, None] + torch.arange(flux.shape[1], device=flux.device)
        ) // self.config.bins
        weight = torch.where((index >= 0) & (index < size), weight, 0.0)
        index = index.clamp(0, size - 1)
        total = flux.new_zeros(len(flux), size).scatter_add_(1, index, weight)
        x = flux.new_zeros(len(flux), size).scatter_add_(1, index, weight * (flux / scale))
        return x / total.clamp(min=1e-6), total / (1 + total / WEIGHT_LIMIT)

    def _solve(self, x: Float[Tensor, "B M"], weight: Float[Tensor, "B M"]) -> Float[Tensor, "B K"]:
        power = torch.einsum("km,lm,bm->bkl", self.components, self.components, weight)
        power += torch.eye(len(self.components), device=x.device)
        return torch.linalg.solve(power, (x * weight) @ self.components.T)

    def _update(
        self, x: Float[Tensor, "B M"], weight: Float[Tensor, "B M"]
    ) -> Float[Tensor, "K M"]:
        """The components that explain these coefficients best, turned to principal axes."""
        c = self._solve(x, weight)
        power = torch.einsum("bk,bl,bm->mkl", c, c, weight) + torch.eye(c.shape[1], device=x.device)
        components = torch.linalg.solve(power, torch.einsum("bk,bm->mk", c, x * weight)).T
        _, singular, axes = torch.linalg.svd(c @ components, full_matrices=False)
        k = len(components)
        return axes[:k] * singular[:k, None] / len(x) ** 0.5


def learn_eigenspectra(
    store: SurveyStore, config: EigenspectraConfig, dictionary: ShiftDictionary
) -> Eigenspectra:
    """Eigenspectra of a survey's encoder-train spectra."""
    rows = store.rows("encoder-train")[:ENOUGH]
    spectra = store.take(rows, ["spectra"])["spectra"]
    shift, _ = dictionary.measure(spectra)
    start = torch.from_numpy(-shift / dictionary.config.bin)
    made = Eigenspectra(config, dictionary.config.length)
    return made.fit(*rebin(spectra, dictionary.config), start)


def learn_measures(
    store: SurveyStore,
    dictionary: DictionaryConfig | None,
    eigenspectra: EigenspectraConfig | None,
    run: Path,
) -> None:
    """Learns what is asked for and the run folder lacks of shift dictionary and eigenspectra."""
    if dictionary is None:
        return
    made = ShiftDictionary(dictionary)
    if not (run / DICTIONARY).exists():
        save_tensors(run / DICTIONARY, learn_dictionary(store, dictionary).state_dict())
    made.load_state_dict(load_file(run / DICTIONARY))
    if eigenspectra is not None and not (run / EIGENSPECTRA).exists():
        learned = learn_eigenspectra(store, eigenspectra, made)
        save_tensors(run / EIGENSPECTRA, learned.state_dict())
