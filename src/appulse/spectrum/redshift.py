"""Redshifts without labels: a dictionary of templates that is learned under unknown shifts.

On a grid uniform in ln(wavelength) a redshift is a shift. k-means over templates *and* shifts
therefore learns rest-frame spectra and relative redshifts together; one zero point, from a few
known redshifts, makes them absolute.

Shapes: B spectra, L bins of the observed window, M bins of a template, K templates, S shifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.fft import next_fast_len
from torch import Tensor, nn

from ..survey.spectra import Spectra
from ..survey.store import SurveyStore
from ..survey.survey import label_columns
from .log_grid import LogGrid, highest_peaks, rebin

DICTIONARY = "dictionary.safetensors"  # its place in a run folder
ENOUGH = 6000  # spectra: the last rounds of learning use no more
CALIBRATION = 20  # labelled redshifts that set the zero point


@dataclass(frozen=True)
class DictionaryConfig(LogGrid):
    """Sizes and schedule of a shift dictionary."""

    templates: int = 12
    shifts: int = 805  # largest ln((1 + z1) / (1 + z2)) is shifts * bin = 0.48
    smoothing: float = 30.0  # bins; the continuum is a running mean of this sigma
    seeds: int = 4  # spectra tried as the first template
    members: int = 20  # a template with fewer starts again from the largest
    margin: int = 30  # bins left for galaxies nearer than all but .5 %
    agreement: float = 0.5  # share of a template's members whose lag counts as its own

    @property
    def length(self) -> int:
        """Bins of a template: the window at every shift."""
        return self.bins + self.shifts - 1


def high_pass(
    spectra: Spectra, config: DictionaryConfig
) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Continuum-free flux on the log grid, relative to its median, and each bin's weight.

    Weights are inverse variances, capped at 8 times their median and saturating at 33, so that a
    few bright pixels do not decide alone.
    """
    flux, ivar = rebin(spectra, config)
    scale = flux.abs().where(ivar > 0, torch.nan).nanmedian(1, keepdim=True).values.clamp(min=1e-3)
    flux, weight = (flux / scale).clamp(-5, 20), (ivar * scale**2).clamp(max=400)
    smooth = _gaussian(torch.stack([flux * weight, weight]), config.smoothing)
    flux = flux - smooth[0] / smooth[1].clamp(min=1e-6)
    weight = torch.minimum(weight, 8 * weight.median(1, keepdim=True).values)
    return flux, weight / (1 + 0.03 * weight)


def _gaussian(x: Float[Tensor, "... L"], sigma: float) -> Float[Tensor, "... L"]:
    """Convolves the last axis with a Gaussian, zero outside."""
    length = x.shape[-1] + int(4 * sigma)
    frequency = torch.fft.rfftfreq(length, device=x.device) * 2 * torch.pi
    response = torch.exp(-0.5 * (sigma * frequency) ** 2)
    return torch.fft.irfft(torch.fft.rfft(x, length) * response, length)[..., : x.shape[-1]]


class ShiftDictionary(nn.Module):
    """K rest-frame templates and the zero point that turns their shifts into redshifts."""

    templates: Tensor
    zero_point: Tensor

    def __init__(self, config: DictionaryConfig = DictionaryConfig()):
        super().__init__()
        self.config = config
        self.register_buffer("templates", torch.zeros(config.templates, config.length))
        self.register_buffer("zero_point", torch.tensor(torch.nan))

    def match(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B K S"], Float[Tensor, "B K S"]]:
        """Gain and amplitude of every template at every shift.

        The gain g is the fit's improvement in chi (its square in chi²), with a unit prior on the
        amplitude g / sqrt(template power under the weights).
        """
        size = _fast_length(self.config.length)
        templates = torch.fft.rfft(self.templates, size)
        power = torch.fft.rfft(self.templates**2, size)
        data = torch.fft.rfft(flux * weight, size).conj()[:, None]
        norm = torch.fft.rfft(weight, size).conj()[:, None]
        shifts = slice(0, self.config.shifts)
        overlap = torch.fft.irfft(data * templates, size)[..., shifts]
        scale = (torch.fft.irfft(norm * power, size)[..., shifts].clamp(min=0) + 1).sqrt()
        gain = overlap / scale
        return gain, gain / scale

    @torch.no_grad()
    def fit(self, spectra: Spectra, seed: int = 0) -> "ShiftDictionary":
        """Learns the templates from spectra alone, splitting 1 → 2 → 4 → ... → K.

        Raises:
            ValueError: With fewer spectra than 4 per template.
        """
        if len(spectra) < 4 * self.config.templates:
            raise ValueError(
                f"{len(spectra)} spectra cannot teach {self.config.templates} templates; "
                f"give at least {4 * self.config.templates}, or fewer templates"
            )
        rng = torch.Generator().manual_seed(seed)
        flux, weight = high_pass(spectra, self.config)
        order = torch.randperm(len(flux), generator=rng)
        flux, weight = flux[order], weight[order]
        goal, self.templates = self.config.templates, self._first_template(flux, weight)
        self._iterate(flux[:1500], weight[:1500], 3)
        while len(self.templates) < goal:
            twins = self.templates[: goal - len(self.templates)]
            noise = 0.25 * torch.randn(twins.shape, generator=rng)
            self.templates = unit_templates(torch.cat([self.templates, twins + noise]))
            self._iterate(flux[:3000], weight[:3000], 4)
            self.agree(flux[:1500], weight[:1500])
            self.make_room(flux[:1500], weight[:1500])
        self._iterate(flux[:6000], weight[:6000], 3)
        return self

    def _first_template(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> Float[Tensor, "1 M"]:
        """The bright spectrum, placed mid-window, that explains the others best."""
        start = self.config.shifts // 2
        bright = (weight * flux**2).sum(1).topk(self.config.seeds).indices
        seeds = torch.zeros(self.config.seeds, self.config.length)
        seeds[:, start : start + self.config.bins] = flux[bright] * (weight[bright] > 0)
        self.templates = unit_templates(seeds)
        gain, _ = self.match(flux[:500], weight[:500])
        explained = gain.clamp(min=0).amax(2).square().sum(0)
        return self.templates[explained.argmax()][None]

    def _iterate(self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"], n: int) -> None:
        for _ in range(n):
            self.templates = self._update(flux, weight)

    def _update(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> Float[Tensor, "K M"]:
        """One round of k-means: assign template and shift, then average the members."""
        count, length = self.templates.shape
        total, norm = torch.zeros(2, count * length)
        members = torch.zeros(count, dtype=torch.long)
        for f, w in zip(flux.split(256), weight.split(256), strict=True):
            template, shift, amplitude = self._assign(f, w)
            index = (template * length + shift)[:, None] + torch.arange(self.config.bins)
            total.index_add_(0, index.ravel(), (amplitude[:, None] * w * f).ravel())
            norm.index_add_(0, index.ravel(), (amplitude[:, None] ** 2 * w).ravel())
            members += torch.bincount(template, minlength=count)
        total, norm = total.view(count, length), norm.view(count, length)
        templates = unit_templates(total / (norm + 0.02 * norm.mean(1, keepdim=True) + 1e-3))
        few = members < min(self.config.members, len(flux) // count)
        templates[few] = templates[members.argmax()].clone()
        return templates

    def agree(self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]) -> None:
        """Moves templates that learned their kind of spectrum at a shift of their own.

        Most members of a template also fit the largest template, if not as well. Where their
        two shifts differ by one and the same lag, that lag is the template's and is taken out.
        """
        gain, shift = self._best_shifts(flux, weight)
        kind = gain.argmax(1)
        largest = kind.bincount().argmax()
        for k, template in enumerate(self.templates.clone()):
            lags = (shift[:, k] - shift[:, largest])[kind == k]
            near = (lags[:, None] - lags).abs() <= 2
            if len(lags) and near.sum(1).max() > self.config.agreement * len(lags):
                lag = int(lags[near.sum(1).argmax()])
                if abs(lag) > 2:
                    self.templates[k] = _moved(template, lag)

    def make_room(self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]) -> None:
        """Moves all templates until the nearest galaxies lie at the end of the shifts.

        Hardly any galaxy is nearer, so that all room is left for those at higher redshift. Only
        the better half of the matches is asked, since random ones lie anywhere.
        """
        gain, shift = self._best_shifts(flux, weight)
        best = gain.max(1)
        sure = best.values >= best.values.median()
        nearest = shift.gather(1, best.indices[:, None])[sure, 0].float().quantile(0.995)
        lag = int(nearest) - (self.config.shifts - 1 - self.config.margin)
        self.templates = torch.stack([_moved(template, lag) for template in self.templates])

    def _best_shifts(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Highest gain of each template, and the shift it is found at."""
        parts = [
            self.match(f, w)[0].max(2)
            for f, w in zip(flux.split(256), weight.split(256), strict=True)
        ]
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])

    def _assign(
        self, flux: Float[Tensor, "B L"], weight: Float[Tensor, "B L"]
    ) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"], Float[Tensor, "B"]]:
        gain, amplitude = self.match(flux, weight)
        best = gain.flatten(1).argmax(1, keepdim=True)
        template, shift = best[:, 0] // self.config.shifts, best[:, 0] % self.config.shifts
        return template, shift, amplitude.flatten(1).gather(1, best)[:, 0].clamp(min=0)

    @torch.no_grad()
    def measure(self, spectra: Spectra) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B K"]]:
        """Shift of each spectrum, as ln(1 + z) up to the zero point, and gains of the templates.

        Gains are the fraction of the spectrum's power that each template explains, the square of
        a correlation, with its sign.
        """
        shifts, gains = [], []
        for start in range(0, len(spectra), 256):
            correlation = self._correlation(spectra[start : start + 256])
            best = correlation.amax(2)
            peak = correlation[torch.arange(len(best)), best.argmax(1)]
            shifts.append(-self.config.bin * _sub_bin_peak(peak))
            gains.append(best * best.abs())
        return torch.cat(shifts).double().numpy(), torch.cat(gains).numpy()

    def _correlation(self, spectra: Spectra) -> Float[Tensor, "B K S"]:
        """Of each spectrum with every template at every shift."""
        flux, weight = high_pass(spectra, self.config)
        place = self.templates.device  # the spectra are read on the CPU
        gain = self.match(flux.to(place), weight.to(place))[0].cpu()
        return gain / (weight * flux**2).sum(1).clamp(min=1e-6).sqrt()[:, None, None]

    @torch.no_grad()
    def proposals(self, spectra: Spectra, k: int = 5) -> Float[np.ndarray, "B k"]:
        """The k likeliest redshifts, best first, at least 1000 km/s apart; NaN if there are fewer.

        They are peaks of the best template's correlation.
        """
        places = []
        for start in range(0, len(spectra), 256):
            curve = self._correlation(spectra[start : start + 256]).amax(1)
            places.append(highest_peaks(curve, k, self.config.bin)[0])
        shift = -self.config.bin * torch.cat(places).double().numpy()
        return np.expm1(shift + self.zero_point.item())

    def calibrate(self, spectra: Spectra, redshift: Float[np.ndarray, "B"]) -> "ShiftDictionary":
        """Sets the zero point from spectra of known redshift; a score of them is enough."""
        shift, _ = self.measure(spectra)
        self.zero_point.fill_(float(np.median(np.log1p(redshift) - shift)))
        return self

    def redshift(self, spectra: Spectra) -> Float[np.ndarray, "B"]:
        """Redshift of each spectrum; NaN before `calibrate`."""
        return np.expm1(self.measure(spectra)[0] + self.zero_point.item())


def unit_templates(templates: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
    """Templates of unit root mean square."""
    return templates / templates.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)


def _moved(template: Float[Tensor, "M"], lag: int) -> Float[Tensor, "M"]:
    """The template `lag` bins to the blue, zeros where it comes to an end."""
    moved = torch.roll(template, -lag)
    moved[len(template) - lag :] = 0  # what came around, for a positive lag
    moved[: max(-lag, 0)] = 0
    return moved


def _sub_bin_peak(correlation: Float[Tensor, "B S"]) -> Float[Tensor, "B"]:
    """Position of the highest peak, a likelihood-weighted mean over 5 bins around it."""
    last = correlation.shape[1] - 1
    offsets = torch.arange(-2, 3)
    near = (correlation.argmax(1, keepdim=True) + offsets).clamp(0, last)
    r2 = correlation.gather(1, near).clamp(min=0).square().clamp(max=0.9999)
    return (torch.softmax(-60 * torch.log1p(-r2), 1) * near).sum(1)


def _fast_length(n: int) -> int:
    """Smallest length >= n whose only prime factors are 2, 3 and 5."""
    return int(next_fast_len(n, real=True))


def learn_dictionary(store: SurveyStore, config: DictionaryConfig) -> ShiftDictionary:
    """A dictionary of a survey's encoder-train spectra.

    A score of labelled galaxies of head-train sets its zero point, where there are any.
    """
    rows = store.rows("encoder-train")[:ENOUGH]
    dictionary = ShiftDictionary(config).fit(store.take(rows, ["spectra"])["spectra"])
    if column := label_columns(store.names).get("redshift"):
        known = store.rows("head-train", f"{column} IS NOT NULL")[:CALIBRATION]
        if len(known):
            labelled = store.take(known, ["spectra", column])
            dictionary.calibrate(labelled["spectra"], labelled[column])
    return dictionary
