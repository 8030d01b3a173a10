"""Questions to a finished model: embeddings of files, an index of them, and what is similar."""

from pathlib import Path
from typing import Any

from .align.convert import convert as convert_checkpoint
from .align.load import load, locate
from .files import Paths
from .search.embeddings import Embeddings, require_writable, with_shared_columns
from .search.index import Index
from .survey.rejects import Rejects
from .tasks import embed as tasks
from .units import PIXEL_SCALE


def convert(source: str, out: Path) -> None:
    """Writes a published checkpoint, of a file or of the hub, as a run folder."""
    convert_checkpoint(locate(source), out)


def embed_files(
    files: Paths,
    model: str | Path,
    out: Path,
    *,
    pixel_scale: float = PIXEL_SCALE,
    rejects: Path | None = None,
    device: str = "auto",
) -> Embeddings:
    """Embeds image files or spectrum files, one after another; see `Embeddings.write`."""
    require_writable(out)
    bad = Rejects()
    try:
        embeddings = tasks.embed_files(
            load(model), files, bad, pixel_scale=pixel_scale, device=device
        )
    finally:  # whoever has no good row needs the reasons most
        bad.write(rejects or out.with_suffix(".rejects.csv"))
    embeddings.write(out)
    return embeddings


def index(embeddings: list[Path], out: Path) -> int:
    """Makes one index of several files of embeddings, with the columns that all of them have.

    Raises:
        ValueError: If they are of several models; an index that is there stays.
    """
    first, *rest = with_shared_columns([Embeddings.read(path) for path in embeddings])
    made = Index.create(out, first, overwrite=True)
    for part in rest:
        made.add(part)
    return len(made)


def search(
    files: Paths,
    model: str | Path,
    index: Path,
    *,
    k: int = 10,
    where: str | None = None,
    pixel_scale: float = PIXEL_SCALE,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """The k nearest rows of an index for each image or spectrum in the files."""
    queries = tasks.embed_files(
        load(model), files, Rejects(strict=True), pixel_scale=pixel_scale, device=device
    )
    ids, cosines = Index.open(index).search(queries, k, where)
    return [
        {"query": str(query), "id": str(id), "cosine": round(float(cosine), 4)}
        for query, names, row in zip(queries.ids, ids, cosines, strict=True)
        for id, cosine in zip(names, row, strict=True)
    ]
