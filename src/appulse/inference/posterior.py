"""Posteriors p(θ | evidence): fitted on pairs of parameters and evidence, then asked anything.

Shapes: B observations, S samples, D parameters, L levels.
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from dacite import from_dict
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..counts import at_least_one
from ..device import resolve_device
from ..progress import track
from ..training.run import load_weights, read_config, save_tensors, write_json
from .ensemble import carry, log_mean_density
from .estimator import Condition, Estimator
from .evidence import Block, Context, Evidence, Kind, gather
from .fitting import FitConfig, PosteriorConfig, Rows, fit_estimators, new_estimators, training_rows
from .peak import find_peak
from .prior import Prior
from .truncation import prior_from

CHUNK = 2048  # samples carried at a time; their activations stay in a CPU's cache
SILENT = 1000  # observations that need no progress bar
STARTS = 64  # samples among which a search for the peak begins


class Intervals(NamedTuple):
    """Median and equal-tailed credible intervals, in the parameters' units."""

    median: Float[np.ndarray, "B D"]
    low: Float[np.ndarray, "B L D"]
    high: Float[np.ndarray, "B L D"]


class Posterior:
    """An ensemble of conditional flows; made by `fit` or `load`.

    Named blocks of evidence come as one dict or as arguments: `sample(image=a, spectrum=b)`.

    Attributes:
        about: What else to save with it, as JSON.
    """

    def __init__(
        self,
        prior: Prior,
        kinds: dict[str, Kind],
        config: PosteriorConfig,
        members: Sequence[Estimator],
        losses: Sequence[float],
        device: torch.device,
        about: dict[str, Any] | None = None,
    ):
        self.prior, self.kinds, self.config, self.about = prior, kinds, config, about or {}
        self.losses, self.device = list(losses), device
        self.members = [member.to(device).eval().requires_grad_(False) for member in members]

    @classmethod
    def fit(
        cls,
        theta: Float[np.ndarray, "B D"],
        context: Context,
        prior: Prior,
        config: PosteriorConfig | None = None,
        *,
        run: str | Path | None = None,
        device: str = "auto",
    ) -> "Posterior":
        """Learns p(θ | context) from rows drawn from p(θ) p(context | θ).

        Flow matching (Lipman et al. 2023; Wildberger et al. 2023) in u, where the prior is
        N(0, I). With several named blocks of evidence, random subsets are hidden in training,
        so that the result answers for any subset that 20 rows or more hold; see `answers`.

        Args:
            theta: Parameters, in the units of the prior.
            context: An array (B, F), sets (B, N, F) or a list of (n_i, F), or a dict of such
                blocks by name; in a named block, rows of NaN lack that evidence.
            prior: What the rows of theta were drawn from; for a catalogue, where they can lie.
            run: Folder for the training runs, from which an interrupted fit goes on.

        Raises:
            ValueError: If the rows do not match, are too few, not finite or outside the prior,
                or a parameter is constant.
        """
        config = config or PosteriorConfig()
        rows = training_rows(theta, gather(context), prior)
        for name, there in zip(rows.evidence.kinds, rows.evidence.present.any(0), strict=True):
            if not there:
                raise ValueError(f"no row has {name!r}; leave that block out")
        members = new_estimators(config, len(prior.names), rows.evidence.kinds)
        rows = rows._replace(pull=members[0].learn_scales(rows.u, rows.evidence))
        for member in members[1:]:
            member.load_state_dict(dict(members[0].named_buffers()), strict=False)  # the scales
        return cls._trained(prior, config, members, rows, run, device)

    def refit(
        self,
        theta: Float[np.ndarray, "B D"],
        context: Context,
        config: FitConfig | None = None,
        *,
        run: str | Path | None = None,
    ) -> "Posterior":
        """A new posterior that starts from these weights and goes on with other rows.

        Raises:
            ValueError: As `fit`, and if the context is not as in training.
        """
        rows = training_rows(theta, gather(context, self.kinds), self.prior)
        members = [copy.deepcopy(member).requires_grad_(True) for member in self.members]
        settings = replace(self.config, fit=config or self.config.fit)
        return self._trained(self.prior, settings, members, rows, run, str(self.device))

    @classmethod
    def _trained(
        cls,
        prior: Prior,
        config: PosteriorConfig,
        members: list[Estimator],
        rows: Rows,
        run: str | Path | None,
        device: str,
    ) -> "Posterior":
        place = resolve_device(device)
        with tempfile.TemporaryDirectory() as temporary:
            losses = fit_estimators(members, rows, config, Path(run or temporary), place)
        return cls(prior, rows.evidence.kinds, config, members, losses, place)

    def answers(self, context: Context = None, **blocks: Block) -> Bool[np.ndarray, "B"]:
        """Which observations have evidence that 20 training rows had together; others are refused.

        Nothing was learned of what two blocks say together where they never came together.
        """
        return self.members[0].held.cpu()[self._gather(context, blocks).subset].numpy()

    def sample(
        self, context: Context = None, n: int = 1000, *, seed: int = 0, **blocks: Block
    ) -> Float[np.ndarray, "B {n} D"]:
        """Draws from the posterior of each observation; none lies outside the prior.

        Equal for an equal seed on any device, up to rounding. For many observations, `intervals`
        keeps only what it needs of each.
        """
        evidence = self._gather(context, blocks)
        out = np.empty((len(evidence), at_least_one(n, "samples"), len(self.prior.names)))
        for rows, theta in self._samples(evidence, n, seed):
            out[rows] = theta
        return out

    def log_prob(
        self, theta: Float[np.ndarray, "B *S D"], context: Context = None, **blocks: Block
    ) -> Float[np.ndarray, "B *S"]:
        """Log density in nats per unit of θ; −∞ outside the prior.

        Args:
            theta: One set of parameters for each observation, or several: (B, D) or (B, S, D).
        """
        evidence = self._gather(context, blocks)
        values = torch.as_tensor(theta, dtype=torch.float64)
        names = self.prior.names
        if values.shape[-1] != len(names) or len(values) != len(evidence):
            raise ValueError(
                f"theta has shape {tuple(values.shape)}; expected {len(evidence)} rows, as the "
                f"context has, and {len(names)} parameters: {', '.join(names)}"
            )
        points = values.reshape(len(values), -1, len(names))
        out = torch.empty(points.shape[:2], dtype=torch.float64)
        for rows, conditions in self._conditions(evidence, points.shape[1]):
            for columns in _slices(points.shape[1], CHUNK):
                part = points[rows, columns]
                density = self._density(self.prior.normal(part), conditions)
                outside = self.prior.outside(part).any(-1)
                out[rows, columns] = torch.where(outside, -torch.inf, density)
        return out.reshape(values.shape[:-1]).numpy()

    def map(
        self, context: Context = None, *, seed: int = 0, **blocks: Block
    ) -> Float[np.ndarray, "B D"]:
        """The parameters of highest posterior density; depends on the units of θ, as any mode."""
        evidence = self._gather(context, blocks)
        out = np.empty((len(evidence), len(self.prior.names)))
        rng = torch.Generator().manual_seed(seed)
        for rows, conditions in self._conditions(evidence, STARTS):
            noise = torch.randn(rows.stop - rows.start, STARTS, out.shape[1], generator=rng)
            before = STARTS * torch.arange(rows.start, rows.stop)
            start = carry(self.members, noise.to(self.device), conditions, before).double().cpu()
            peak = find_peak(partial(self._density, conditions=conditions), start)
            out[rows] = self.prior.theta(peak).numpy()
        return out

    def intervals(
        self,
        context: Context = None,
        levels: Sequence[float] = (0.68, 0.95),
        n: int = 1000,
        seed: int = 0,
        **blocks: Block,
    ) -> Intervals:
        """Median and equal-tailed intervals of each parameter from n samples per observation."""
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels are {tuple(levels)}; expected shares between 0 and 1")
        tails = [(1 - level) / 2 for level in levels]
        quantiles = [0.5, *tails, *(1 - tail for tail in tails)]
        evidence = self._gather(context, blocks)
        out = np.empty((len(quantiles), len(evidence), len(self.prior.names)))
        for rows, theta in self._samples(evidence, at_least_one(n, "samples"), seed):
            out[:, rows] = np.quantile(theta, quantiles, axis=1)
        median, ends = out[0], np.moveaxis(out[1:], 0, 1)
        return Intervals(median, ends[:, : len(levels)], ends[:, len(levels) :])

    def save(self, path: str | Path) -> None:
        """Writes a folder with `config.json` and `weights.safetensors`."""
        path = Path(path)
        save_tensors(path / "weights.safetensors", nn.ModuleList(self.members).state_dict())
        described = {
            "posterior": self.prior.describe(),
            "names": list(self.prior.names),
            "evidence": {name: asdict(kind) for name, kind in self.kinds.items()},
            "config": asdict(self.config),
            "validation": self.losses,
            "about": self.about,
        }
        write_json(path / "config.json", described)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Posterior":
        """Reads what `save` wrote, on any device.

        Raises:
            ValueError: If the folder holds no posterior, or is damaged.
        """
        saved, weights = read_config(Path(path)), load_weights(Path(path))
        if "posterior" not in saved:
            raise ValueError(f"{path} holds no posterior; expected a folder that `save` wrote")
        kinds = {name: Kind(**kind) for name, kind in saved["evidence"].items()}
        config = from_dict(PosteriorConfig, saved["config"])
        members: Any = nn.ModuleList(new_estimators(config, len(saved["names"]), kinds))
        for k in range(config.members):  # older ones did not keep it, and refuse nothing
            weights.setdefault(f"{k}.held", torch.ones(2 ** len(kinds), dtype=torch.bool))
        try:
            members.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{path} holds weights that do not fit its settings: it is damaged, or another "
                "version of appulse wrote it; fit it again"
            ) from error
        prior, place = prior_from(saved["posterior"]), resolve_device(device)
        return cls(prior, kinds, config, list(members), saved["validation"], place, saved["about"])

    def _gather(self, context: Context, blocks: dict[str, Block]) -> Evidence:
        if context is not None and blocks:
            raise ValueError(f"give the evidence as one context or as {list(blocks)}, not both")
        return gather(blocks if context is None else context, self.kinds)

    def _samples(self, evidence: Evidence, n: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Samples (b, n, D) of a few observations at a time."""
        rng = torch.Generator().manual_seed(seed)
        for rows, conditions in self._conditions(evidence, n):
            noise = torch.randn(rows.stop - rows.start, n, len(self.prior.names), generator=rng)
            noise, before = noise.to(self.device), n * torch.arange(rows.start, rows.stop)
            parts = [
                carry(self.members, noise[:, part], conditions, before + part.start)
                for part in _slices(n, CHUNK)
            ]
            yield rows, self.prior.theta(torch.cat(parts, 1).double().cpu()).numpy()

    def _conditions(
        self, evidence: Evidence, samples: int
    ) -> Iterator[tuple[slice, list[Condition]]]:
        """What each member makes of a few observations at a time, with progress if many."""
        evidence.require(self.members[0].held.cpu())
        total = len(evidence)
        chunks = (range(s.start, s.stop) for s in _slices(total, max(CHUNK // samples, 1)))
        for chunk in chunks if total <= SILENT else track(chunks, "posteriors", total):
            rows = slice(chunk.start, chunk.stop)
            part = evidence[rows].to(self.device)
            with torch.no_grad():
                yield rows, [member.condition(part) for member in self.members]

    def _density(
        self, u: Float[Tensor, "B S D"], conditions: list[Condition]
    ) -> Float[Tensor, "B S"]:
        """Log density per unit of θ; differentiable."""
        mean = log_mean_density(self.members, u.float().to(self.device), conditions)
        return mean.cpu() - self.prior.log_slope(u)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
