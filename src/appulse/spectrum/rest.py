"""Galaxy spectra at rest as a few numbers: principal components under noise and missing pixels.

Shapes: B spectra, L bins of the rest frame, K components.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..progress import track
from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..training.run import load_tensors, save_tensors
from ..units import desi_grid
from .redshift import DICTIONARY, ENOUGH, DictionaryConfig, ShiftDictionary, learn_dictionary

REST = "rest.safetensors"  # the place of a RestSpace in a run folder
WINDOW = (4200.0, 6000.0)  # Å at rest; its mean flux is the brightness where it is seen
GREY = 0.03  # of the flux: errors that are not in ivar; keeps bright galaxies from deciding alone
PULL = 30.0  # weight with which components are 0: bins that hardly any spectrum sees stay calm
BRIGHT, FAR = 0.06, 1.5  # in `coordinates`: what ln(brightness) and ln(1 + z) count as
LEAST = 1e-2  # 1e-17 erg/s/cm²/Å, of a brightness whose logarithm is taken


@dataclass(frozen=True)
class RestConfig:
    """Grid, uniform in ln(wavelength), and number of components."""

    components: int = 16
    blue: float = 2400.0  # Å at rest
    red: float = 9800.0
    bin: float = 6e-4  # in ln(wavelength)
    rounds: int = 12  # of learning

    @property
    def bins(self) -> int:
        """Of the grid."""
        return int(np.log(self.red / self.blue) / self.bin)

    @property
    def wavelength(self) -> Float[np.ndarray, "L"]:
        """Å, centres of the bins."""
        return self.blue * np.exp(self.bin * (np.arange(self.bins) + 0.5))


class AtRest(NamedTuple):
    """Spectra in the rest frame, relative to their brightness."""

    flux: Float[Tensor, "B L"]
    weight: Float[Tensor, "B L"]  # inverse variance; 0 where nothing was seen
    brightness: Float[Tensor, "B"]  # 1e-17 erg/s/cm²/Å


class RestSpace(nn.Module):
    """x = mean + components h + noise, with h ~ N(0, I) and noise of known size.

    Factor analysis by expectation-maximisation, each pixel with its own noise, as in Tsalmantza &
    Hogg (2012); `encode` gives the posterior mean of h.
    """

    def __init__(self, config: RestConfig = RestConfig()):
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.components: Tensor
        self.register_buffer("mean", torch.zeros(config.bins))
        self.register_buffer("components", torch.zeros(config.bins, config.components))

    def to_rest(self, spectra: Spectra, redshift: Float[np.ndarray, "B"]) -> AtRest:
        """Inverse-variance weighted means in the bins of the rest frame."""
        config, rows = self.config, len(spectra)
        rest = np.log(spectra.wavelength / (1 + redshift[:, None]) / config.blue) / config.bin
        index = np.floor(np.nan_to_num(rest, nan=-1)).astype(np.int64)  # nothing, if z is unknown
        inside = (index >= 0) & (index < config.bins)
        index = np.where(inside, index, 0) + config.bins * np.arange(rows)[:, None]
        weight = np.where(inside, spectra.ivar, 0.0)
        ivar = np.bincount(index.ravel(), weight.ravel(), rows * config.bins)
        total = np.bincount(index.ravel(), (weight * spectra.flux).ravel(), rows * config.bins)
        ivar, total = ivar.reshape(rows, -1), total.reshape(rows, -1)
        flux = total / np.where(ivar > 0, ivar, 1)
        scale = np.maximum(_brightness(flux, ivar > 0, config.wavelength), LEAST)[:, None]
        variance = 1 / np.where(ivar > 0, ivar, 1) / scale**2 + GREY**2
        weight = np.where(ivar > 0, 1 / variance, 0)
        return AtRest(*(torch.from_numpy(a).float() for a in (flux / scale, weight, scale[:, 0])))

    @torch.no_grad()
    def fit(self, spectra: Spectra, redshift: Float[np.ndarray, "B"], seed: int = 0) -> "RestSpace":
        """Learns mean and components.

        Raises:
            ValueError: With fewer spectra than 4 per component.
        """
        config = self.config
        if len(spectra) < 4 * config.components:
            raise ValueError(
                f"{len(spectra)} spectra cannot teach {config.components} components; give at "
                f"least {4 * config.components}, or fewer components"
            )
        flux, weight, _ = self.to_rest(spectra, redshift)
        rng = torch.Generator().manual_seed(seed)
        self.mean = (weight * flux).sum(0) / weight.sum(0).clamp(min=1e-6)
        self.components = 0.1 * torch.randn(self.components.shape, generator=rng)
        rounds = (range(1) for _ in range(config.rounds))
        for _ in track(rounds, "components of spectra", config.rounds):
            self._maximise(flux, weight, *self._posterior(flux, weight))
        self._turn(self._posterior(flux, weight)[0])
        return self

    def _turn(self, h: Float[Tensor, "B K"]) -> None:
        """Makes the coordinates uncorrelated, of mean 0 and variance 1, large components first."""
        self.mean = self.mean + self.components @ h.mean(0)
        root = torch.linalg.cholesky(torch.cov(h.T))
        axes, sizes, _ = torch.linalg.svd(self.components @ root, full_matrices=False)
        self.components = axes * sizes

    def encode(
        self, spectra: Spectra, redshift: Float[np.ndarray, "B"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B"]]:
        """Coordinates, about N(0, 1) each, and ln of the brightness."""
        flux, weight, brightness = self.to_rest(spectra, redshift)
        place = self.mean.device  # the spectra are read on the CPU
        mean, _ = self._posterior(flux.to(place), weight.to(place))
        return mean.cpu().double().numpy(), brightness.double().log().numpy()

    def decode(
        self,
        coordinates: Float[np.ndarray, "B K"],
        log_brightness: Float[np.ndarray, "B"],
        redshift: Float[np.ndarray, "B"],
    ) -> Float[np.ndarray, "B 7781"]:
        """Noise-free flux on the DESI grid, 1e-17 erg/s/cm²/Å."""
        at_rest = (self.mean + torch.from_numpy(coordinates).float() @ self.components.T).numpy()
        grid, config = desi_grid(), self.config
        flux = np.empty((len(at_rest), len(grid)), np.float32)
        for row, (spectrum, z) in enumerate(zip(at_rest, redshift, strict=True)):
            flux[row] = np.interp(grid / (1 + z), config.wavelength, spectrum)
        return flux * np.exp(log_brightness)[:, None].astype(np.float32)

    def coordinates(
        self, shift: Float[Tensor, "B"], encoded: Float[Tensor, "B F"]
    ) -> Float[Tensor, "B F+1"]:
        """What to compare spectra by: looks at rest, brightness and redshift.

        The distance in the first K is that between noise-free spectra at rest, root mean square
        over the bins, each relative to its brightness.

        Args:
            shift: Of a dictionary, in ln(1 + z) up to a constant.
            encoded: What `encode` gives, side by side.
        """
        size = self.components.norm(dim=0) / self.config.bins**0.5
        looks, log_brightness = encoded[:, :-1], encoded[:, -1:]
        return torch.cat([size * looks, BRIGHT * log_brightness, FAR * shift[:, None]], dim=1)

    def _posterior(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K K"]]:
        """Mean and covariance of h."""
        size = self.config.components
        squares = (self.components[:, :, None] * self.components[:, None]).flatten(1)
        precision = (weight @ squares).view(-1, size, size) + torch.eye(size, device=weight.device)
        covariance = torch.linalg.inv(precision)
        moment = (weight * (flux - self.mean)) @ self.components
        return torch.einsum("bij,bj->bi", covariance, moment), covariance

    def _maximise(
        self, flux: Tensor, weight: Tensor, mean: Float[Tensor, "B K"], covariance: Tensor
    ) -> None:
        """Mean and components that explain the spectra best, given what is known of h."""
        size = self.config.components + 1
        design = torch.cat([mean, torch.ones(len(mean), 1)], 1)
        squares = design[:, :, None] * design[:, None]
        squares[:, :-1, :-1] += covariance
        normal = (weight.T @ squares.flatten(1)).view(-1, size, size)
        normal[:, :-1, :-1] += PULL * torch.eye(size - 1)
        normal[:, -1, -1] += 1e-6
        solution = torch.linalg.solve(normal, (weight * flux).T @ design)
        self.components, self.mean = solution[:, :-1].contiguous(), solution[:, -1].contiguous()


def _brightness(
    flux: Float[np.ndarray, "B L"], seen: np.ndarray, wavelength: Float[np.ndarray, "L"]
) -> Float[np.ndarray, "B"]:
    """Mean flux in the window, or where nothing of it is seen, as at high redshift, of all."""
    window = seen & (wavelength >= WINDOW[0]) & (wavelength < WINDOW[1])
    used = np.where(window.any(1, keepdims=True), window, seen)
    return (flux * used).sum(1) / np.maximum(used.sum(1), 1)


def rest_redshift(
    dictionary: ShiftDictionary, shift: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B"]:
    """Redshifts of shifts; before the dictionary is calibrated, nearly: the nearest get 0."""
    zero, config = dictionary.zero_point.item(), dictionary.config
    return np.expm1(
        shift + ((config.shifts - config.margin) * config.bin if np.isnan(zero) else zero)
    )


def learn_measures(
    store: SurveyStore, dictionary: DictionaryConfig | None, rest: RestConfig | None, run: Path
) -> None:
    """Learns what is asked for and the run folder lacks of shift dictionary and `RestSpace`.

    The latter from redshifts that the dictionary measures: neither needs labels.
    """
    if dictionary is None:
        return
    if not (run / DICTIONARY).exists():
        save_tensors(run / DICTIONARY, learn_dictionary(store, dictionary).state_dict())
    if rest is not None and not (run / REST).exists():
        made = ShiftDictionary(dictionary)
        made.load_state_dict(load_tensors(run / DICTIONARY))
        spectra = store.take(store.rows("encoder-train")[:ENOUGH], ["spectra"])["spectra"]
        redshift = rest_redshift(made, made.measure(spectra)[0])
        save_tensors(run / REST, RestSpace(rest).fit(spectra, redshift).state_dict())
