"""From what methods said to results: scores over seeds, and ours against the best baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..survey.survey import label_columns
from .protocol import Predictions, paired, score
from .results import Columns, Result
from .retrieval import DIRECTIONS, queries, ranks_by_pool
from .sample import Sample
from .tables import HEADLINES, best

Group = tuple[str, str, int]  # method, modality, galaxies learned from
Groups = Mapping[Group, Sequence[Predictions]]


def grouped(rows: Iterable[Predictions]) -> Groups:
    """Methods with their seeds, in the order they come."""
    groups: dict[Group, list[Predictions]] = {}
    for row in rows:
        groups.setdefault((row.method, row.modality, row.n_train), []).append(row)
    return groups


def score_all(groups: Groups, sample: Sample) -> list[Result]:
    """Every score of every method, then by how much ours is above the best baseline's."""
    truth, galaxies = sample.labels["test"], len(sample.rows("test"))
    asked = queries(truth, galaxies)
    results = []
    for (_, modality, _), trained in groups.items():
        results += score(trained, asked if modality in DIRECTIONS else truth)
        if modality in DIRECTIONS:
            results += ranks_by_pool(list(trained), galaxies)
    columns = label_columns(sample.store.names)
    results += _ahead(results, groups, truth, asked)
    return [replace(r, column=columns.get(r.target, "")) for r in results]


def _ahead(
    results: Sequence[Result], groups: Groups, truth: Columns, asked: Columns
) -> list[Result]:
    """Ours against the best baseline in each headline, on the same galaxies; see `tables.best`."""
    ahead = []
    for modality, target, metric, _ in HEADLINES:
        ours, rival = best(results, modality, target, metric)
        if ours is not None and rival is not None:
            mine, theirs = (groups[r.method, r.modality, r.n_train] for r in (ours, rival))
            known = asked if modality in DIRECTIONS else truth
            ahead.append(paired(mine, theirs, known, target, metric))
    return ahead
