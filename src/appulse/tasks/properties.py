"""Posteriors of galaxies' properties from any of image, spectrum and photometry.

Shapes: B galaxies, F features, P parameters, L levels, S samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file

from ..inference.estimator import EstimatorConfig
from ..inference.fitting import FitConfig, PosteriorConfig
from ..inference.novelty import ALARM, Neighbourhood
from ..inference.posterior import Posterior
from ..inference.prior import IndependentPrior, LogNormal, Marginal, Normal, Positive
from ..search.embeddings import Embeddings
from ..survey.fluxes import Fluxes
from ..training.run import digest, save_tensors

REFERENCE = "reference.safetensors"  # evidence of galaxies that were learned from
KEPT = 2000  # of them
NEAREST = 0.003  # redshift below which its posterior bends, to stay above 0
LEVELS = (0.68, 0.95)
QUANTILES = (0.5, *(q for level in LEVELS for q in ((1 - level) / 2, (1 + level) / 2)))
SUFFIXES = ("", *(f"_{end}_{100 * level:.0f}" for level in LEVELS for end in ("low", "high")))
CONFIG = PosteriorConfig(
    EstimatorConfig(dropout=0.1, outliers=True),
    FitConfig(passes=330.0, batch_size=1024, learning_rate=3e-3, weight_decay=0.3),
    members=2,
)


@dataclass(frozen=True, eq=False)
class Observed:
    """What is known of galaxies, by `id`; a row of NaN says that a galaxy lacks that block.

    Attributes:
        ids: Names, shape (B,).
        blocks: Evidence as `Posterior` takes it: image, spectrum and photometry, of which some may
            lack. Of image and spectrum, what their model says: see `observed`.
        model_hash: Of the embeddings, None without any.
    """

    ids: np.ndarray
    blocks: Mapping[str, Float[np.ndarray, "B _"]]
    model_hash: str | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known(self) -> Bool[np.ndarray, "B"]:
        """Which galaxies have any evidence."""
        return np.any([np.isfinite(block[:, 0]) for block in self.blocks.values()], axis=0)

    def digest(self) -> str:
        """Names galaxies and evidence."""
        ids = torch.frombuffer(bytearray("\n".join(self.ids).encode()), dtype=torch.uint8)
        blocks = {name: torch.from_numpy(block) for name, block in self.blocks.items()}
        return digest({"ids of galaxies": ids, **blocks})

    def __getitem__(self, rows: Any) -> "Observed":
        """The galaxies named by a slice or an array."""
        blocks = {name: block[rows] for name, block in self.blocks.items()}
        return Observed(self.ids[rows], blocks, self.model_hash)


def observed(
    image: Embeddings | None = None,
    spectrum: Embeddings | None = None,
    photometry: Fluxes | None = None,
) -> Observed:
    """Joins tables on their ids: every galaxy that is in any of them, in the order of the first.

    An embedding comes with the model's coordinates, and that of a spectrum with its redshift by the
    shift dictionary, side by side. Rows with a NaN lack that evidence.

    Raises:
        ValueError: If there is no table or no row, an id comes twice in a table, the embeddings
            are of several models, or each is not of its modality.
    """
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for modality, embeddings in (("image", image), ("spectrum", spectrum)):
        if embeddings is not None:
            if embeddings.modality != modality:
                raise ValueError(f"the {modality} embeddings are of {embeddings.modality} instead")
            tables[modality] = embeddings.ids, embeddings.evidence
    if photometry is not None:
        tables["photometry"] = photometry.ids, photometry.features()
    ids = list(dict.fromkeys(id for names, _ in tables.values() for id in names.tolist()))
    if not ids:
        raise ValueError("there is nothing to infer from; give embeddings or photometry with rows")
    blocks = {name: _aligned(name, ids, *table) for name, table in tables.items()}
    return Observed(np.array(ids), blocks, _one_hash([image, spectrum]))


def _one_hash(parts: Sequence[Embeddings | None]) -> str | None:
    hashes = {part.model_hash for part in parts if part is not None}
    if len(hashes) > 1:
        raise ValueError(f"embeddings are of models {sorted(hashes)}; expected one for both")
    return hashes.pop() if hashes else None


def _aligned(name: str, ids: list[str], own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of a table in the order of `ids`, NaN where it has none or a number is missing."""
    unique, count = np.unique(own, return_counts=True)
    if (count > 1).any():
        raise ValueError(
            f"{name}: {(count > 1).sum()} ids come more than once, such as "
            f"{str(unique[count > 1][0])!r}; keep one row for each"
        )
    row = {id: i for i, id in enumerate(own.tolist())}
    index = np.array([row.get(id, -1) for id in ids])
    out = np.full((len(ids), values.shape[1]), np.nan, np.float32)
    out[index >= 0] = values[index[index >= 0]]
    out[~np.isfinite(out).all(1)] = np.nan
    return out


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

        Galaxies that lack a label or all evidence are left out.

        Args:
            evidence: One row a galaxy.
            labels: Properties by name, in the units of `survey.LABEL_UNITS`.
            columns: What the labels are called in their survey, to say so later.
            run: Folder for training, which an interrupted fit goes on from.
        """
        theta = np.stack(list(labels.values()), 1)
        rows = np.isfinite(theta).all(1) & evidence.known
        theta, evidence = theta[rows], evidence[rows]
        prior = IndependentPrior({n: _marginal(n, v) for n, v in zip(labels, theta.T, strict=True)})
        posterior = Posterior.fit(theta, evidence.blocks, prior, config, run=run, device=device)
        posterior.about = {
            "targets": {name: columns[name] for name in labels},
            "ranges": {n: [v.min(), v.max()] for n, v in zip(labels, theta.T, strict=True)},
            "model_hash": evidence.model_hash,
            "galaxies": len(theta),
        }
        reference = {n: b[np.isfinite(b[:, 0])][:KEPT] for n, b in evidence.blocks.items()}
        return cls(posterior, reference)

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
        return cls(posterior, load_file(reference))

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
        says that it is under 1 %; `at_edge` names parameters whose 95 % interval leaves the range
        of the labels learned from. Galaxies without evidence have NaN.

        Raises:
            ValueError: If the embeddings are of another model.
        """
        self.require(evidence)
        known, names = evidence.known, self.posterior.prior.names
        draws = np.full((len(evidence), n, len(names)), np.nan)
        if known.any():
            draws[known] = self.posterior.sample(dict(evidence[known].blocks), n, seed=seed)
        ends = np.quantile(draws, QUANTILES, axis=1)
        columns = {"id": evidence.ids, "evidence": _evidence_of(evidence)}
        for k, name in enumerate(names):
            marks = zip(SUFFIXES, ends[:, :, k], strict=True)
            columns |= {f"{name}{what}": values for what, values in marks}
            if samples:
                columns[f"{name}_samples"] = draws[:, :, k].copy()
        chance = self.novelty(evidence)
        columns |= {"novelty": chance, "novel": chance < ALARM, "at_edge": self._at_edge(ends)}
        return _table(columns, self._described())

    def novelty(self, evidence: Observed) -> Float[np.ndarray, "B"]:
        """Chance that a galaxy like those learned from looks as odd; NaN without evidence.

        Each block has its own; the smallest counts, times the number of blocks (Bonferroni).
        """
        chances = np.full((len(evidence), len(evidence.blocks)), np.nan)
        for k, (name, block) in enumerate(evidence.blocks.items()):
            rows, around = np.isfinite(block[:, 0]), self._around[name]
            if rows.any():
                chances[rows, k] = around.chance(around.distance(block[rows]))
        smallest = np.where(np.isnan(chances), np.inf, chances).min(1)
        count = np.isfinite(chances).sum(1)
        return np.where(count > 0, np.minimum(smallest * np.maximum(count, 1), 1), np.nan)

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
