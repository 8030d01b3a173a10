"""Posteriors of galaxies' properties from any of image, spectrum and photometry.

Shapes: B galaxies, F features, P parameters, L levels, S samples.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from ..inference.estimator import EstimatorConfig
from ..inference.fitting import FEWEST, FitConfig, PosteriorConfig
from ..inference.novelty import ALARM, Neighbourhood
from ..inference.posterior import Posterior
from ..inference.prior import IndependentPrior, LogNormal, Marginal, Normal, Positive
from ..training.run import load_tensors, save_tensors
from .observed import Observed

REFERENCE = "reference.safetensors"  # evidence of galaxies that were learned from
KEPT = 2000  # of them
POSITIVE = ("redshift", "age")
NEAREST = 0.003  # redshift below which its posterior bends, to stay above 0
LEVELS = (0.68, 0.95)
QUANTILES = (0.5, *(q for level in LEVELS for q in ((1 - level) / 2, (1 + level) / 2)))
SUFFIXES = ("", *(f"_{end}_{100 * level:.0f}" for level in LEVELS for end in ("low", "high")))
NO_EVIDENCE = "no evidence"
NOT_LEARNED = f"fewer than {FEWEST} galaxies learned from had this evidence together"
CONFIG = PosteriorConfig(
    EstimatorConfig(dropout=0.1, outliers=True),
    FitConfig(passes=330.0, batch_size=1024, learning_rate=3e-3, weight_decay=0.3),
    members=2,
)


class GalaxyPosterior:
    """A posterior of galaxies' properties, with what tells it whether a galaxy is like others.

    `posterior.about` says which columns the labels were (`targets`), between which values they
    lay (`ranges`), and which model the embeddings are of (`model_hash`).
    """

    def __init__(self, posterior: Posterior, reference: Mapping[str, np.ndarray]):
        self.posterior, self.reference = posterior, dict(reference)
        self._around = {name: Neighbourhood(block) for name, block in reference.items()}

    @classmethod
    def fit(
        cls,
        evidence: Observed,
        labels: Mapping[str, Float[np.ndarray, "B"]],
        columns: Mapping[str, str],
        config: PosteriorConfig = CONFIG,
        *,
        run: Path | None = None,
        device: str = "auto",
    ) -> "GalaxyPosterior":
        """Learns the joint posterior of the labelled properties given any part of the evidence.

        Galaxies are left out that lack a label or all evidence, or whose redshift or age is not
        positive.

        Args:
            evidence: One row a galaxy.
            labels: Properties by name, in the units of `survey.LABEL_UNITS`.
            columns: What the labels are called in their survey, to say so later.
            run: Folder for training, which an interrupted fit goes on from.

        Raises:
            ValueError: If fewer than 20 galaxies are left, or have one kind of evidence.
        """
        theta = np.stack(list(labels.values()), 1).astype(np.float64)
        positive = [k for k, name in enumerate(labels) if name in POSITIVE]
        rows = np.isfinite(theta).all(1) & (theta[:, positive] > 0).all(1) & evidence.known
        theta, evidence = theta[rows], evidence[rows]
        for name, block in evidence.blocks.items():
            if (count := np.isfinite(block[:, 0]).sum()) < FEWEST:
                raise ValueError(
                    f"{count} of the {len(theta)} galaxies with all of {', '.join(labels)} have "
                    f"{name}; expected {FEWEST} or more: label others, or leave {name} out"
                )
        prior = IndependentPrior({n: _marginal(n, v) for n, v in zip(labels, theta.T, strict=True)})
        posterior = Posterior.fit(theta, evidence.blocks, prior, config, run=run, device=device)
        posterior.about = {
            "targets": {name: columns[name] for name in labels},
            "ranges": {n: [v.min(), v.max()] for n, v in zip(labels, theta.T, strict=True)},
            "model_hash": evidence.model_hash,
            "galaxies": len(theta),
        }
        return cls(posterior, {name: _kept(block) for name, block in evidence.blocks.items()})

    def save(self, path: str | Path) -> None:
        """Writes a folder that `Posterior.load` reads too."""
        tensors = {name: torch.from_numpy(block) for name, block in self.reference.items()}
        save_tensors(Path(path) / REFERENCE, tensors)
        self.posterior.save(path)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "GalaxyPosterior":
        """Reads what `save` wrote.

        Raises:
            ValueError: If the folder holds no posterior, or one of something else than galaxies.
        """
        posterior, reference = Posterior.load(path, device), Path(path) / REFERENCE
        if not reference.exists():
            raise ValueError(
                f"{path} holds a posterior, but not one that `appulse posterior` made: "
                f"it has no {REFERENCE}"
            )
        return cls(posterior, {n: block.numpy() for n, block in load_tensors(reference).items()})

    def require(self, evidence: Observed) -> None:
        """Refuses embeddings of another model than the posterior was learned from.

        Raises:
            ValueError: Naming both.
        """
        ours = self.posterior.about["model_hash"]
        if evidence.model_hash is not None and evidence.model_hash != ours:
            raise ValueError(
                f"these embeddings are of model {evidence.model_hash}; the posterior was learned "
                f"from those of {ours}: embed again with that model, or fit a posterior to this one"
            )

    def infer(
        self, evidence: Observed, n: int = 500, *, samples: bool = False, seed: int = 0
    ) -> pa.Table:
        """One row a galaxy: median and intervals of each parameter, and reasons for doubt.

        `redshift` is the median, `redshift_low_68` and `redshift_high_68` end the interval that
        holds 68 %; `redshift_samples` are draws, if asked for. `evidence` names what was there;
        `novelty` is the chance that a galaxy like those learned from looks as odd, and `novel`
        says that it is under 1 %, or that some evidence is farther out than that of all of them,
        who may be too few to tell 1 %; `at_edge` names parameters whose 95 % interval leaves the
        range of the labels learned from. Galaxies without evidence, or with evidence that too few
        of those learned from had together, have NaN, and `reason` says so.

        Raises:
            ValueError: If the embeddings are of another model.
        """
        self.require(evidence)
        reason, names = self._reason(evidence), self.posterior.prior.names
        draws, asked = np.full((len(evidence), n, len(names)), np.nan), reason == ""
        if asked.any():
            draws[asked] = self.posterior.sample(dict(evidence[asked].blocks), n, seed=seed)
        ends = np.quantile(draws, QUANTILES, axis=1)
        columns = {"id": evidence.ids, "evidence": _evidence_of(evidence), "reason": reason}
        for k, name in enumerate(names):
            marks = zip(SUFFIXES, ends[:, :, k], strict=True)
            columns |= {f"{name}{what}": values for what, values in marks}
            if samples:
                columns[f"{name}_samples"] = draws[:, :, k].copy()
        chances = self._chances(evidence)
        chance, least = _smallest(chances), [self._around[n].least for n in evidence.blocks]
        columns |= {"novelty": chance, "novel": (chance < ALARM) | (chances <= least).any(1)}
        columns["at_edge"] = self._at_edge(ends)
        return _table(columns, self._described())

    def _reason(self, evidence: Observed) -> np.ndarray:
        """Why each galaxy has no posterior; nothing where it has one."""
        known, answered = evidence.known, np.zeros(len(evidence), bool)
        if known.any():
            answered[known] = self.posterior.answers(dict(evidence[known].blocks))
        return np.where(answered, "", np.where(known, NOT_LEARNED, NO_EVIDENCE))

    def _chances(self, evidence: Observed) -> Float[np.ndarray, "B K"]:
        """That a galaxy like those learned from looks as odd in each block; NaN without it."""
        chances = np.full((len(evidence), len(evidence.blocks)), np.nan)
        for k, (name, block) in enumerate(evidence.blocks.items()):
            rows, around = np.isfinite(block[:, 0]), self._around[name]
            if rows.any():
                chances[rows, k] = around.chance(around.distance(block[rows]))
        return chances

    def _at_edge(self, ends: Float[np.ndarray, "Q B P"]) -> np.ndarray:
        """Names of the parameters whose widest interval leaves the labels' range."""
        low, high = np.array(list(self.posterior.about["ranges"].values())).T
        beyond = (ends[1:] < low) | (ends[1:] > high)
        names = np.array(self.posterior.prior.names)
        return np.array([" ".join(names[row]) for row in beyond.any(0)], dtype=np.str_)

    def _described(self) -> dict[str, str]:
        """What a reader of the table must know."""
        about = self.posterior.about
        targets = {f"label_{name}": column for name, column in about["targets"].items()}
        return {"model_hash": str(about["model_hash"]), **targets}


def _smallest(chances: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B"]:
    """Of each galaxy's blocks, times their number (Bonferroni); NaN without any."""
    count = np.isfinite(chances).sum(1)
    smallest = np.where(np.isnan(chances), np.inf, chances).min(1)
    return np.where(count > 0, np.minimum(smallest * np.maximum(count, 1), 1), np.nan)


def _kept(block: Float[np.ndarray, "B F"]) -> Float[np.ndarray, "N F"]:
    """Rows that say how alike galaxies are: any of them, surveys being sorted by place or time."""
    known = np.flatnonzero(np.isfinite(block[:, 0]))
    return block[np.random.default_rng(0).permutation(known)[:KEPT]]


def _marginal(name: str, values: Float[np.ndarray, "B"]) -> Marginal:
    """Where a property can lie; its scale from the labels."""
    if name == "age":
        return LogNormal(float(np.log(values).mean()), float(np.log(values).std()))
    mean, sd = float(values.mean()), float(values.std())
    return Positive(mean, sd, NEAREST) if name == "redshift" else Normal(mean, sd)


def _evidence_of(evidence: Observed) -> np.ndarray:
    """Names of the blocks that each galaxy has."""
    names = np.array(list(evidence.blocks))
    there = np.stack([np.isfinite(block[:, 0]) for block in evidence.blocks.values()], 1)
    return np.array([" ".join(names[row]) for row in there], dtype=np.str_)


def _table(columns: Mapping[str, np.ndarray], about: Mapping[str, str]) -> pa.Table:
    arrays = {}
    for name, column in columns.items():
        flat = pa.array(column.ravel())
        lists = column.ndim > 1
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1]) if lists else flat
    return pa.table(arrays).replace_schema_metadata(dict(about))
