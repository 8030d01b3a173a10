"""Real galaxies, one function per stage: fetch files, pair them into a store, label it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from .files import Paths, expand_paths, folder_beside
from .progress import each, track
from .survey import crossmatch, labels
from .survey.cutouts import VIEWER, CutoutService
from .survey.download import Downloader
from .survey.fetch import fetch_files, read_targets
from .survey.parts import Split
from .survey.readers import iter_images, iter_spectra, some
from .survey.rejects import Rejects
from .survey.services import Service
from .survey.sparcl import API, SpectrumService
from .survey.spool import Spool
from .survey.store import SurveyStore
from .survey.store_append import require_new
from .units import PIXEL_SCALE

NSIDE = 64  # HEALPix: cells that all go to one part


def fetch(
    coordinates: Path,
    out: Path,
    *,
    images: bool = True,
    spectra: bool = True,
    layer: str = "ls-dr10",
    size: int = 152,
    radius: float = 1.0,
    rate: float = 1.0,
    cutout_url: str = VIEWER,
    spectrum_url: str = API,
    rejects: Path | None = None,
) -> dict[str, Any]:
    """Fetches cutouts and spectra at positions into a folder; what is there is kept.

    Returns how many files of each kind were fetched, were there or failed, and the rejects.
    """
    bad, downloader = Rejects(), Downloader(rate)
    services: list[Service] = [CutoutService(cutout_url, layer, size)] if images else []
    services += [SpectrumService(spectrum_url, radius)] if spectra else []
    report: dict[str, Any] = {}
    try:
        targets = read_targets(coordinates, bad)
        for service in services:
            outcomes = ([o] for o in fetch_files(service, targets, out, downloader, bad))
            tracked = track(outcomes, f"fetch {service.folder}", len(targets))
            report[service.folder] = dict(Counter(outcome for (outcome,) in tracked))
    finally:
        bad.write(rejects or out / "rejects.csv")
    return {**report, "rejected": [reject._asdict() for reject in bad]}


def pair(
    images: Paths,
    spectra: Paths,
    out: Path,
    *,
    radius: float = 1.0,
    by: Literal["position", "id"] = "position",
    size: int = 152,
    split: Literal["sky", "random"] = "sky",
    pixel_scale: float = PIXEL_SCALE,
    rejects: Path | None = None,
) -> dict[str, Any]:
    """Pairs image files with spectrum files into a store; returns who was left out and why.

    Parts are of whole cells of the sky, .9° wide, unless `split` is random or a place is unknown.
    Until all files are read, pixels are beside `out`: memory holds names and places, the disk
    needs half a MB more for each galaxy. A store appears only when it is whole.

    Raises:
        ValueError: If something is at `out` already, nothing can be read, or nothing pairs.
    """
    require_new(out)
    bad = Rejects()
    read_image = partial(iter_images, rejects=bad, size=size, pixel_scale=pixel_scale)
    read_spectrum = partial(iter_spectra, rejects=bad)
    with folder_beside(out) as folder:
        try:
            pictures = map(read_image, each(expand_paths(images), "read images"))
            seen = Spool(folder / "images", some(chain.from_iterable(pictures), bad))
            recorded = map(read_spectrum, each(expand_paths(spectra), "read spectra"))
            found = Spool(folder / "spectra", some(chain.from_iterable(recorded), bad))
        finally:  # whoever has no good row needs the reasons most
            if rejects:
                bad.write(rejects)
        pairing = crossmatch.pair(seen, found, radius, by)
        by_sky = split == "sky" and pairing.placed
        parts = Split(by="sky", nside=NSIDE) if by_sky else Split()
        surveys = track(pairing.surveys(), "write", len(pairing))
        store = SurveyStore.create(folder / "survey", surveys, split=parts)
        pairs = len(store)
        (folder / "survey").rename(out)
    return {
        "pairs": pairs,
        **pairing.left_out(),
        "duplicates": [duplicate.targetid for duplicate in store.duplicates],
        "rejected": [reject._asdict() for reject in bad],
    }


def label(
    survey: Path,
    table: Path,
    *,
    by: Literal["id", "position"] = "id",
    radius: float = 1.0,
    columns: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Adds a catalogue's labels to a store; returns which galaxies went without, and why."""
    store = SurveyStore.open(survey)
    return labels.attach(store, labels.read_labels(table), by=by, radius=radius, columns=columns)
