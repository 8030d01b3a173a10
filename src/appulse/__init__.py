"""appulse: the image and the spectrum of a galaxy in one space.

Public names are loaded on first use, so that `import appulse` stays quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Images": "survey.images",
    "Spectra": "survey.spectra",
    "Survey": "survey.survey",
    "Rejects": "survey.rejects",
    "SurveyStore": "survey.store",
    "read_images": "survey.readers",
    "read_spectra": "survey.readers",
    "read_labels": "survey.labels",
    "simulate": "survey.synthetic.simulate",
    "Embeddings": "search.embeddings",
    "Index": "search.index",
    "Posterior": "inference.posterior",
    "infer": "inference.simulator",
    "load": "align.load",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"appulse has no {name!r}; it has {', '.join(_HOME)}")
    return getattr(import_module(f"appulse.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
