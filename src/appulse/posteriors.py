"""Posteriors of galaxies, and spectra made for them: one function per stage.

    posterior                   redshift, mass, age … from image, spectrum, photometry
    infer                       a posterior asked about tables
    generator                   spectra from noise, or for an image
    pictures                    both beside the truth of test galaxies

Like those of pipeline.py, each goes on where it stopped.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .counts import at_least_one
from .digest import digest
from .evaluate.posteriors import generation_plots, posterior_plots
from .evaluate.report import Plot
from .files import apart_from, unfinished
from .inference.fitting import PosteriorConfig
from .progress import track
from .search.embeddings import Embeddings
from .survey.fluxes import Fluxes
from .survey.store import SurveyStore
from .survey.survey import PROPERTIES, label_columns
from .survey.tables import require_known, write_parts, write_table
from .tasks.folder import require_own
from .tasks.generate import CONFIG as GENERATING
from .tasks.generate import Generator
from .tasks.observed import Observed, observed
from .tasks.properties import CONFIG, NO_EVIDENCE, NOT_LEARNED, GalaxyPosterior
from .training.run import load_weights

PHOTOMETRIC_ERRORS = (0.003, 0.1)  # relative, of a survey's photometry
PICTURED, SHOWN = 500, 4  # test galaxies in pictures of calibration, and of spectra
CHUNK = 1000  # galaxies inferred, and written, at a time


def posterior(
    survey: Path,
    embeddings: Path,
    out: Path,
    config: PosteriorConfig = CONFIG,
    *,
    device: str = "auto",
) -> GalaxyPosterior:
    """Learns the posterior of the head-train part's labels, and writes it to a folder.

    Args:
        survey: The store; its labels are what `survey.label_columns` names.
        embeddings: Folder that `pipeline.embed` wrote for it.
        out: Run folder; an unfinished fit there goes on.
        config: Sizes and schedule.

    Raises:
        ValueError: If there are no labels, the embeddings are of other galaxies, or `out` holds
            something else than a posterior of galaxies.
    """
    require_own(out, "posterior")
    store = SurveyStore.open(survey)
    columns = {n: c for n, c in label_columns(store.names).items() if n in PROPERTIES}
    values = store.columns(list(columns.values()), "head-train")
    labels = {n: values[c] for n, c in columns.items() if np.isfinite(values[c]).any()}
    if not labels:
        raise ValueError(
            f"{survey} has no labels in its head-train part to learn from; expected any of "
            f"{', '.join(PROPERTIES)}: attach them with `appulse label`"
        )
    evidence = observed_part(store, embeddings, "head-train")
    fitted = GalaxyPosterior.fit(
        evidence, labels, columns, config, run=out / "training", device=device
    )
    fitted.save(out)
    return fitted


def observed_part(store: SurveyStore, embeddings: Path, part: str) -> Observed:
    """Evidence of a part's galaxies: embeddings, and photometry measured on the images.

    Photometry gets noise of .3 to 10 %, as that of other telescopes may have.

    Raises:
        ValueError: If the embeddings are not of these galaxies.
    """
    image, spectrum = (
        Embeddings.read(embeddings / f"{part}-{modality}.parquet")
        for modality in ("image", "spectrum")
    )
    ids = store.columns(["targetid"], part)["targetid"]
    for embedded in (image, spectrum):
        if not np.array_equal(embedded.ids, ids):
            raise ValueError(
                f"{embeddings} holds embeddings of other galaxies than the {len(ids)} of the "
                f"survey's part {part!r}; run `appulse embed --survey` again"
            )
    return observed(image, spectrum, _photometry(store, part))


def _photometry(store: SurveyStore, part: str) -> Fluxes:
    batches = store.batches(part, 128, fields=("images",), shuffle=False)
    images = (batch["images"] for batch in batches)
    parts = track(images, f"photometry, {part}", len(store.rows(part)))
    measured = Fluxes.concatenate([Fluxes.measure(batch) for batch in parts])
    low, high = np.log(PHOTOMETRIC_ERRORS)
    return measured.noisier(np.exp(np.random.default_rng(0).uniform(low, high, len(measured))))


def generator(
    survey: Path,
    embeddings: Path,
    out: Path,
    config: PosteriorConfig = GENERATING,
    *,
    device: str = "auto",
) -> Generator:
    """Learns to make spectra from the head-train part's, and writes a folder.

    Raises:
        ValueError: If the survey has no redshifts, the embeddings are of other galaxies, or `out`
            holds something else than a generator.
    """
    require_own(out, "generator")
    store = SurveyStore.open(survey)
    column = label_columns(store.names).get("redshift")
    if column is None:
        raise ValueError(f"{survey} has no redshifts; attach them with `appulse label`")
    rows = store.rows("head-train")
    galaxies = store.take(rows, ["spectra", column])
    images = Embeddings.read(embeddings / "head-train-image.parquet")
    made = Generator.fit(
        galaxies["spectra"], galaxies[column], images, config, run=out / "training", device=device
    )
    made.save(out)
    return made


def pictures(
    survey: Path,
    embeddings: Path,
    posterior: Path,
    generator: Path | None = None,
    *,
    device: str = "auto",
) -> list[Plot]:
    """Calibration and a corner of the posterior, and generated spectra, on test galaxies.

    Those whose labels and embeddings are all known.
    """
    store, asked = SurveyStore.open(survey), GalaxyPosterior.load(posterior, device)
    targets = asked.posterior.about["targets"]
    values = store.columns(list(targets.values()), "test")
    theta = np.stack([values[column] for column in targets.values()], 1)
    images, spectra = (
        Embeddings.read(embeddings / f"test-{modality}.parquet")
        for modality in ("image", "spectrum")
    )
    evidence = observed(images, spectra)
    known = np.flatnonzero(np.isfinite(theta).all(1) & evidence.whole)[:PICTURED]
    plots = posterior_plots(asked, evidence[known], theta[known])
    if generator is None:
        return plots
    few, made = known[:SHOWN], Generator.load(generator, device)
    seen = store.take(store.rows("test")[few], ["spectra"])["spectra"]
    return [*plots, *generation_plots(made, images[few], seen)]


def infer(
    posterior: Path,
    out: Path,
    *,
    image: Path | None = None,
    spectrum: Path | None = None,
    photometry: Path | None = None,
    n: int = 500,
    samples: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, int]:
    """Asks a posterior about tables, joined on their ids; see `GalaxyPosterior.infer`.

    Written some galaxies at a time beside `out`, from where an interrupted call goes on.

    Args:
        posterior: Folder of `posterior`.
        out: .parquet or .fits.
        image, spectrum: Tables of embeddings, .parquet or .fits.
        photometry: Table that `Fluxes.read` understands.
        n: Draws for each galaxy.
        samples: Whether to write them all.

    Returns:
        How many galaxies there are, without evidence, with evidence that was not learned
        together, novel, and at an edge.

    Raises:
        ValueError: If there is nothing to infer from, the embeddings are of another model, the
            suffix of `out` is unknown, or it is one of the tables.
    """
    require_known(out)
    at_least_one(n, "n")
    if tables := [path for path in (image, spectrum, photometry) if path]:
        apart_from(out, tables)
    asked = GalaxyPosterior.load(posterior, device)
    evidence = observed(
        Embeddings.read(image) if image else None,
        Embeddings.read(spectrum) if spectrum else None,
        Fluxes.read(photometry) if photometry else None,
    )
    asked.require(evidence)
    settings = {"posterior": digest(load_weights(posterior)), "evidence": evidence.digest()}
    folder = unfinished(out, {**settings, "n": n, "samples": samples, "seed": seed})
    paths = []
    for rows in track(_chunks(len(evidence)), "infer", len(evidence)):
        paths.append(folder / f"{rows.start:09d}.parquet")
        if not paths[-1].exists():
            part = evidence[rows.start : rows.stop]
            made = asked.infer(part, n, samples=samples, seed=seed + rows.start)
            write_table(made, paths[-1])
    counts = _joined(paths, out)
    shutil.rmtree(folder)
    return counts


def _chunks(n: int) -> Iterator[range]:
    return (range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def _joined(paths: list[Path], out: Path) -> dict[str, int]:
    """Writes the parts as one table, Parquet without holding them all; counts what to look at."""
    named = ("galaxies", "without evidence", "not learned together", "novel", "at an edge")
    counts = dict.fromkeys(named, 0)
    for path in paths:
        table = pq.read_table(path, columns=["reason", "novel", "at_edge"])
        reason, novel, edge = (column.to_numpy() for column in table.columns)
        why = (reason == NO_EVIDENCE).sum(), (reason == NOT_LEARNED).sum()
        sums = len(reason), *why, novel.sum(), (edge != "").sum()
        counts = {k: v + int(more) for (k, v), more in zip(counts.items(), sums, strict=True)}
    tables = map(pq.read_table, paths)
    if out.suffix == ".parquet":
        write_parts(tables, out)
    else:
        write_table(pa.concat_tables(tables), out)
    return counts
