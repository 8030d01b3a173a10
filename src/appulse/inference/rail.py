"""Posteriors of one parameter as `qp` ensembles, which RAIL reads (extra `rail`).

Shapes: B observations, Z edges of bins.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from .evidence import Context
from .posterior import Posterior

TAILS = (1e-4, 0.001, 0.005, *np.linspace(0.01, 0.49, 49))
LEVELS = np.array([*TAILS, 0.5, *(1 - tail for tail in reversed(TAILS))])


def qp_ensemble(
    posterior: Posterior,
    parameter: str,
    context: Context,
    edges: Float[np.ndarray, "Z"],
    *,
    ids: Shaped[np.ndarray, "B"] | None = None,
    n: int = 5000,
    seed: int = 0,
) -> Any:
    """A `qp.Ensemble` of B marginal posteriors, as densities in common bins.

    They come from quantiles of n samples, which keep photometric redshifts best for their number
    (Malz et al. 2018): bins that few samples fall into are not empty by chance.

    Args:
        parameter: Name of the parameter, as in the posterior's prior.
        context: As for `Posterior.sample`.
        edges: Of the bins, increasing, in units of the parameter; what lies beyond is left out.
        ids: Of the observations, kept beside them (`ancil`).

    Raises:
        ValueError: If the posterior has no such parameter.
        ImportError: Without `qp`.
    """
    names = list(posterior.prior.names)
    if parameter not in names:
        raise ValueError(f"no parameter named {parameter!r}; the posterior has {', '.join(names)}")
    try:
        import qp
    except ImportError as error:
        raise ImportError("qp is not installed; pip install 'appulse[rail]'") from error
    found = posterior.intervals(context, [1 - 2 * tail for tail in TAILS], n, seed)
    column = names.index(parameter)
    low, high = found.low[..., column], found.high[..., column]
    quantiles = np.hstack([low, found.median[:, [column]], high[:, ::-1]])
    below = np.array([np.interp(edges, row, LEVELS, left=0, right=1) for row in quantiles])
    density = np.diff(below, axis=1) / np.diff(edges)
    ancil = None if ids is None else {"id": np.asarray(ids)}
    return qp.Ensemble(qp.hist, data={"bins": edges, "pdfs": density}, ancil=ancil)
