"""Questions to a finished model: embeddings of files, what is similar, what is odd; own labels."""

import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .align.convert import convert as convert_checkpoint
from .align.load import load, locate
from .device import Precision
from .digest import digest_of
from .files import Paths, apart_from, unfinished
from .progress import each
from .search.embeddings import (
    STREAMED,
    Embeddings,
    Modality,
    require_writable,
    with_shared_columns,
)
from .search.index import Index
from .survey.kind import name_of
from .survey.readers import modality_of, some
from .survey.rejects import Rejects
from .survey.store import SurveyStore
from .survey.tables import require_known, write_parts, write_table
from .tasks import embed as tasks
from .tasks import finetune as tuning
from .tasks.anomaly import find_anomalies
from .tasks.finetuned import Finetuned
from .tasks.folder import require_own
from .tasks.labelled import Labels, labelled_files, labelled_survey
from .units import PIXEL_SCALE

FILES = 256  # whose embeddings are kept together; what an interruption loses


class Written(NamedTuple):
    """A table of what files hold, and one of why other rows could not be read."""

    out: Path
    rows: int
    reasons: Path
    rejected: int

    def __str__(self) -> str:
        told = f"{self.rows} rows in {self.out}"
        return f"{told}; {self.rejected} rejected, see {self.reasons}" if self.rejected else told


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
    precision: Precision = "float32",
) -> Written:
    """Embeds image files or spectrum files, one after another; see `Embeddings.write`.

    Written some files at a time beside `out`, from where an interrupted call goes on. To .lance,
    which becomes an index, memory does not grow with the number of files. `rejects` is .csv or
    .parquet, beside `out` if left out.

    Raises:
        ValueError: If no file can be read, or `out` cannot be written.
    """
    require_writable(out)
    paths, loaded = apart_from(out, files), load(model)
    modality, reasons = modality_of(paths), rejects or _beside(out)
    _warn_of_namesakes(paths, modality)
    settings = {"model": loaded.hash(), "pixel scale": pixel_scale, "precision": precision}
    folder = unfinished(out, {**settings, "files": digest_of(list(map(_as_it_is, paths)))})
    starts = range(0, len(paths), FILES)
    done = sum(_rejected(folder, start).exists() for start in starts)
    todo = each(paths, f"embed {modality} files", done * FILES)
    for start in starts[done:]:
        bad, some_files = Rejects(), islice(todo, FILES)
        options: Any = {"pixel_scale": pixel_scale, "device": device, "precision": precision}
        stream = tasks.stream_files(loaded, modality, some_files, bad, **options)
        write_parts((part.to_table() for part in stream), _embedded(folder, start))
        bad.write(_rejected(folder, start))
    bad = Rejects()
    for start in starts:
        bad.read(_rejected(folder, start))
    bad.write(reasons)
    try:
        rows = _gather(some(_parts(folder), bad), out)
    except ValueError:  # the same call would end here again
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    return Written(out, rows, reasons, len(bad))


def _beside(out: Path) -> Path:
    """Where reasons go that nobody named a file for."""
    return out.with_suffix(".rejects.csv")


def _warn_of_namesakes(paths: Sequence[Path], modality: Modality) -> None:
    """Warns if files of one name, in several folders, give galaxies one id."""
    seen: dict[str, Path] = {}
    pairs = ((seen.setdefault(name_of(path), path), path) for path in paths)
    pair = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if pair is None:
        return
    one, other = (next(tasks.read_files(modality, [path], Rejects()), None) for path in pair)
    if one is not None and other is not None and one.ids[0] == other.ids[0]:
        warnings.warn(
            f"{pair[0]} and {pair[1]} both have the id {str(one.ids[0])!r}, and so may others: "
            "rename files such that each galaxy has its own name",
            stacklevel=3,
        )


def _as_it_is(path: Path) -> list[str | int]:
    """What tells a file from a newer one of its name."""
    state = path.stat() if path.exists() else None
    return [str(path), *((state.st_size, state.st_mtime_ns) if state else ())]


def _embedded(folder: Path, start: int) -> Path:
    """Embeddings of the files from this one on, if any could be read."""
    return folder / f"{start:09d}.parquet"


def _rejected(folder: Path, start: int) -> Path:
    """Why others could not; written last."""
    return folder / f"{start:09d}.rejects.parquet"


def _parts(folder: Path) -> Iterator[Embeddings]:
    for path in sorted(folder.glob("?????????.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield Embeddings.from_table(file.read_row_group(group))


def _gather(parts: Iterator[Embeddings], out: Path) -> int:
    """Writes the parts as one; returns how many rows."""
    if out.suffix == STREAMED:
        return len(Index.stream(out, parts, overwrite=True))
    embeddings = tasks.joined(parts)
    embeddings.write(out)
    return len(embeddings)


def index(embeddings: list[Path], out: Path) -> int:
    """Makes one index of several files of embeddings, with the columns that all of them have.

    Raises:
        ValueError: If they are of several models; an index that is there stays.
    """
    parts = with_shared_columns([Embeddings.read(path) for path in embeddings])
    return len(Index.stream(out, parts, overwrite=True))


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


def anomaly(embeddings: Path, reference: Path, out: Path, *, seed: int = 0) -> list[dict[str, Any]]:
    """Judges embeddings by those of other galaxies; writes a table, the oddest first.

    Returns:
        Its first ten rows.

    Raises:
        ValueError: If models, modalities or galaxies of the two are not as they should be.
    """
    require_known(out)
    apart_from(out, [embeddings, reference])
    asked, others = Embeddings.read(embeddings), Embeddings.read(reference)
    if (asked.model_hash, asked.modality) != (others.model_hash, others.modality):
        raise ValueError(
            f"{embeddings} holds {asked.modality} embeddings of model {asked.model_hash}, "
            f"{reference} {others.modality} embeddings of {others.model_hash}; expected the same"
        )
    if shared := set(asked.ids) & set(others.ids):
        raise ValueError(
            f"{len(shared)} galaxies are in both files, such as {str(min(shared))!r}; a galaxy is "
            "near to itself: expected others as reference"
        )
    found = asdict(find_anomalies(asked.vectors, others.vectors, seed=seed))
    order = np.argsort(found["distance_chance"] * found["density_chance"], kind="stable")
    table = pa.table({"id": asked.ids[order], **{n: v[order] for n, v in found.items()}})
    write_table(table, out)
    return table.slice(0, 10).to_pylist()


def finetune(
    table: Path,
    targets: Sequence[str],
    model: str | Path,
    out: Path,
    *,
    files: Paths | None = None,
    survey: Path | None = None,
    modality: Modality = "image",
    blocks: int = 0,
    pixel_scale: float = PIXEL_SCALE,
    device: str = "auto",
) -> dict[str, Any]:
    """Teaches a model the labels that a table gives galaxies by their ids.

    Args:
        table: FITS, HDF5, Parquet, ECSV or CSV with ids and the columns of `targets`.
        targets: Columns of numbers, or one of class names.
        model: Run folder, published checkpoint or hub id; it stays as it is.
        out: Run folder of the result, for `predict`.
        files: Images or spectra of these galaxies and perhaps others.
        survey: Instead of files, a survey store.
        modality: What of the survey to read.
        blocks: Last blocks of the tower that learn; see `tasks.finetune`.

    Returns:
        How many galaxies had labels, and scores on those held out.

    Raises:
        ValueError: If columns are missing or mixed, too few galaxies have labels, or `out` holds a
            run of another stage.
    """
    require_own(out, "finetune")
    labels, learner = Labels.read(table, targets), load(model)
    if survey is not None:
        galaxies = labelled_survey(SurveyStore.open(survey), labels, modality)
    else:
        galaxies = labelled_files(files or [], labels, pixel_scale)
    y = labels.of(galaxies.ids)
    _, scores = tuning.finetune(learner, galaxies, y, targets, out, blocks=blocks, device=device)
    rounded = {n: {k: round(v, 4) for k, v in s._asdict().items()} for n, s in scores.items()}
    return {"galaxies": len(galaxies), **rounded}


def predict(
    files: Paths,
    run: Path,
    out: Path,
    *,
    pixel_scale: float = PIXEL_SCALE,
    rejects: Path | None = None,
    device: str = "auto",
) -> Written:
    """Writes a table of what a fine-tuned model says of image or spectrum files.

    Raises:
        ValueError: If no file can be read.
    """
    require_known(out)
    paths, bad, tuned = apart_from(out, files), Rejects(), Finetuned.load(run)
    reasons = rejects or _beside(out)
    _warn_of_namesakes(paths, tuned.modality)
    batches = tasks.read_files(tuned.modality, each(paths, "predict"), bad, pixel_scale)
    parts = []
    try:
        for galaxies in some(batches, bad):
            said = tuned.predict(galaxies, device=device)
            columns = zip(tuned.names, said.reshape(len(said), -1).T, strict=True)
            parts.append(pa.table({"id": galaxies.ids, **dict(columns)}))
    finally:  # whoever has no good row needs the reasons most
        bad.write(reasons)
    table = pa.concat_tables(parts)
    write_table(table, out)
    return Written(out, len(table), reasons, len(bad))
