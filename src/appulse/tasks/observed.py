"""Evidence of galaxies from several tables, joined on their ids.

Shapes: B galaxies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from ..digest import digest
from ..search.embeddings import Embeddings
from ..survey.fluxes import Fluxes


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

    @property
    def whole(self) -> Bool[np.ndarray, "B"]:
        """Which galaxies have all of the evidence."""
        return np.all([np.isfinite(block[:, 0]) for block in self.blocks.values()], axis=0)

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
