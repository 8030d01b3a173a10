"""Galleries of queries and their nearest neighbours, in the same or the other modality."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from sklearn.metrics.pairwise import cosine_similarity

from ..figures import Cell, gallery
from ..survey.rgb import to_rgb
from ..survey.spectra import Spectra
from ..survey.survey import Survey, label_columns

SMOOTHING = 15  # pixels averaged when a spectrum is drawn an inch wide


def neighbour_gallery(
    direction: str,
    vectors: Mapping[str, Float[np.ndarray, "B D"]],
    read: Callable[[Int[np.ndarray, "N"]], Survey],
    queries: Sequence[int],
    k: int = 5,
) -> Figure:
    """A row per query: the galaxy as asked, then its k nearest, the true partner framed.

    Within a modality the query itself is left out.

    Args:
        direction: "image → spectrum", "image → image", and so on.
        vectors: Embeddings of one pool of galaxies by modality; row i is one galaxy.
        read: Gives the galaxies of some rows of the pool, e.g. `survey.__getitem__`.
        queries: Rows to ask for.
        k: Neighbours to show.
    """
    asked, (given, sought) = np.asarray(queries), direction.split(" → ")
    similarity = cosine_similarity(vectors[given][asked], vectors[sought])
    if given == sought:
        similarity[np.arange(len(asked)), asked] = -np.inf
    seen, found = _DRAWN[given], _DRAWN[sought]
    nearest = np.argsort(-similarity, axis=1)[:, :k]
    rows = []
    for query, columns, likeness in zip(asked, nearest, similarity, strict=True):
        survey = read(np.array([query, *columns]))
        cells = [Cell(seen(survey, 0), f"query, {_redshift(survey, 0)}")]
        for i, column in enumerate(columns, start=1):
            caption = f"{_redshift(survey, i)}, cos {likeness[column]:.2f}"
            cells.append(Cell(found(survey, i), caption, highlight=bool(column == query)))
        rows.append(cells)
    return gallery(rows)


def _redshift(survey: Survey, row: int) -> str:
    column = label_columns(survey.columns).get("redshift")
    return f"z {survey.columns[column][row]:.3f}" if column else "z ?"


def picture(survey: Survey, row: int) -> Float[np.ndarray, "y x 3"]:
    """Colours as the Legacy Surveys viewer shows them."""
    image = survey.images[row]
    rgb = to_rgb(image.flux[0]) if image.kind == "flux" else image.flux[0]
    return rgb.transpose(1, 2, 0)


def trace(survey: Survey, row: int) -> Float[np.ndarray, "2 L"]:
    """Wavelength and smoothed flux."""
    return np.stack([_smooth(a) for a in _filled(survey.spectra[row])])


def _filled(spectrum: Spectra) -> tuple[Float[np.ndarray, "L"], Float[np.ndarray, "L"]]:
    return spectrum.wavelength[0], spectrum.filled()[0]


def _smooth(values: Float[np.ndarray, "L"]) -> Float[np.ndarray, "N"]:
    whole = len(values) // SMOOTHING * SMOOTHING
    return values[:whole].reshape(-1, SMOOTHING).mean(axis=1)


_DRAWN = {"image": picture, "spectrum": trace}
