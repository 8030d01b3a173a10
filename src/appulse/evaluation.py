"""A finished model beside every baseline, on galaxies that no encoder saw: rows, then one page.

Each method with each seed is a row in the report's folder. What is there is not done again, so an
interrupted evaluation goes on, and a new page costs no training.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .align.load import load
from .align.model import Model
from .digest import digest_of
from .evaluate.attention import attention_figure, spread_out
from .evaluate.comparison import methods
from .evaluate.densities import densities
from .evaluate.pictures import learning, pictures
from .evaluate.report import SIMULATIONS_ONLY, Plot, save_plots, write_report
from .evaluate.results import Result, write_results
from .evaluate.rivals import rivals
from .evaluate.rows import Method, Rows
from .evaluate.sample import PARTS, Sample
from .evaluate.scores import Groups, grouped, score_all
from .evaluate.study import Study
from .evaluate.workers import workers
from .provenance import provenance
from .search.embeddings import Embeddings
from .survey.store import SurveyStore

COUNTS = (100, 1000)  # of labels, beside all
DENSITIES = {True: 500, False: 2000}  # galaxies whose posteriors are scored, quick or not
SHOWN, AMONG = 4, 100  # test galaxies whose attention is shown, and among which they are chosen


def evaluate(
    run: str | Path,
    survey: Path,
    embeddings: Path,
    out: Path,
    *,
    posteriors: Sequence[Path] = (),
    runs: Mapping[str, Path] | None = None,
    more: Sequence[Plot] = (),
    quick: bool = False,
    seeds: int = 3,
    device: str = "auto",
    processes: int = 1,
) -> list[Result]:
    """Scores a model on the test part; writes report.html, results.json, figures and rows.

    Args:
        run: The model that made the embeddings.
        survey: The store.
        embeddings: Folder that `pipeline.embed` wrote.
        out: Folder for the report.
        posteriors: Folders of posteriors of these embeddings, learned with seeds 0, 1, …
        runs: Training runs by title, for their learning curves; unless `quick`, pretrained towers
            among them are scored as they were before alignment.
        more: Pictures for the report.
        quick: Leave out what trains for long: networks from pixels, MoCo v2, feature towers.
        seeds: How often to train what depends on chance.
        device: Where to train.
        processes: That train side by side, each a method with a seed. A script that asks for more
            than one needs the usual `if __name__ == "__main__":`.
    """
    runs = runs or {}
    work = partial(
        _made, run, survey, embeddings, out, posteriors, runs, quick, range(seeds), device
    )
    with workers(work, processes):
        study, model, asked, rows = work()
    groups = grouped(rows.of(asked))
    results = score_all(groups, study.sample)
    plots = [*pictures(study, groups, results), *more, *_attention(study, model)]
    plots += learning(runs)
    save_plots(out / "figures", plots)
    write_results(out / "results.json", results)
    _write_page(out / "report.html", study, groups, results, plots, survey)
    return results


class _Made(NamedTuple):
    """What an evaluation is of, and its rows."""

    study: Study
    model: Model
    methods: list[Method]
    rows: Rows


def _made(
    run: str | Path,
    survey: Path,
    embeddings: Path,
    out: Path,
    posteriors: Sequence[Path],
    runs: Mapping[str, Path],
    quick: bool,
    seeds: Sequence[int],
    device: str,
) -> _Made:
    """Makes the rows, the longest first, so that several processes end at about the same time."""
    store, model = SurveyStore.open(survey), load(run)
    study = _study(store, embeddings, out, seeds, () if quick else COUNTS, device)
    minutes = methods(study)
    if posteriors:
        minutes += densities(study, posteriors, DENSITIES[quick])
    hours = [] if quick else rivals(study, model, runs)
    rows = Rows(out / "rows", study.sample.identity)
    rows.make([*hours, *minutes])
    return _Made(study, model, [*minutes, *hours], rows)


def _study(
    store: SurveyStore,
    embeddings: Path,
    out: Path,
    seeds: Sequence[int],
    counts: Sequence[int],
    device: str,
) -> Study:
    embedded = {}
    for part in PARTS:
        image, spectrum = (
            Embeddings.read(embeddings / f"{part}-{modality}.parquet")
            for modality in ("image", "spectrum")
        )
        embedded[part] = image, spectrum
    sample = Sample.of(store)
    work = out / "work" / digest_of(sample.identity)
    return Study(sample, sample.choose(embedded), work, seeds, counts, device=device)


def _attention(study: Study, model: Model) -> list[Plot]:
    rows = study.sample.rows("test")[:AMONG]
    some = spread_out(study.sample.store.read(rows), SHOWN)
    galaxies = study.sample.store.read(rows[some])
    return [
        Plot(
            "Where the towers look",
            attention_figure(model, galaxies, study.device),
            "Weights with which the pooling reads patches, the mean over heads; contours are the "
            "galaxy's. What a head reads of physical features beside the patches is not shown, and "
            "a small weight on a loud patch may count for more than a large one on sky.",
        )
    ]


def _commits(groups: Groups) -> set[str]:
    """Of the code that the rows were made by."""
    return {row.commit for rows in groups.values() for row in rows if row.commit}


def _write_page(
    path: Path,
    study: Study,
    groups: Groups,
    results: Sequence[Result],
    plots: Sequence[Plot],
    survey: Path,
) -> None:
    store, tested = study.sample.store, len(study.sample.rows("test"))
    write_report(
        path,
        results,
        plots,
        {
            **study.sample.describe(),
            "seeds": "“× 3” after the galaxies that a method learned from says how often; of the "
            "encoders there is one",
            "model": study.model_hash,
            **provenance(),
            "rows are of commits": ", ".join(sorted(_commits(groups))) or "unknown",
            "survey": f"{survey}, {len(store):,} galaxies",
        },
        title="appulse: images and spectra in one space",
        summary=f"{len(store):,} galaxies in {survey.name}, {tested:,} of them scored; no encoder "
        "saw those that are scored or that probes learn from.",
        note=SIMULATIONS_ONLY if store.surveys == ["synthetic"] else "",
    )
