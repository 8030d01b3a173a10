"""Pictures of posteriors of galaxies, and of generated spectra, beside the truth.

Shapes: B galaxies, S samples, P parameters, L pixels.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from ..figures import BLUE, ORANGE, STYLE
from ..inference.calibration import Coverage, coverage, pit, tarp
from ..search.embeddings import Embeddings
from ..survey.spectra import Spectra
from ..tasks.generate import Generator
from ..tasks.observed import Observed
from ..tasks.properties import GalaxyPosterior
from .calibration import coverage_panels, pit_histograms
from .corner import corner
from .report import LABELS, Plot

SUBSETS = {  # names in the pictures: blocks of evidence
    "image": ("image",),
    "spectrum": ("spectrum",),
    "both": ("image", "spectrum"),
}
SAMPLES = 100  # of each galaxy, for calibration
SHOWN = 2000  # samples in a corner
SMOOTHING = 4.0  # pixels of a shown spectrum


def posterior_plots(
    asked: GalaxyPosterior, evidence: Observed, theta: Float[np.ndarray, "B P"]
) -> list[Plot]:
    """Calibration on these galaxies, and the posterior of the first of them."""
    names = asked.posterior.prior.names
    samples = {
        title: asked.posterior.sample(blocks, SAMPLES)
        for title, blocks in evidence_subsets(evidence).items()
    }
    titles = [LABELS[name] for name in names]
    said = f"{len(theta):,} test galaxies that no network saw, {SAMPLES} draws each."
    return [
        Plot(
            "Posteriors: is the truth where it should be",
            pit_histograms(pit(samples["both"], theta), titles),
            f"From image and spectrum: flat if calibrated; the band holds 99 % of bins. {said}",
        ),
        Plot(
            "Posteriors: coverage of each parameter, and TARP of all together",
            coverage_panels(
                {name: coverages(drawn, theta, titles) for name, drawn in samples.items()},
                len(theta),
            ),
            f"On the diagonal if calibrated, below it if over-confident. {said}",
        ),
        Plot(
            "Posterior of a galaxy",
            galaxy_corner(asked, evidence, theta, 0),
            "A test galaxy: contours hold 68 and 95 % of the posterior within 3.5 σ; lines mark "
            "the catalogue's values.",
        ),
    ]


def evidence_subsets(evidence: Observed) -> dict[str, dict[str, np.ndarray]]:
    """Evidence of images, of spectra, and of both."""
    return {
        title: {name: evidence.blocks[name] for name in blocks if name in evidence.blocks}
        for title, blocks in SUBSETS.items()
    }


def coverages(
    samples: Float[np.ndarray, "B S P"], theta: Float[np.ndarray, "B P"], titles: Sequence[str]
) -> dict[str, Coverage]:
    """Of each parameter, and TARP."""
    each = coverage(samples, theta)
    columns = zip(titles, each.inside.T, strict=True)
    return {n: Coverage(each.level, c) for n, c in columns} | {"TARP": tarp(samples, theta)}


def galaxy_corner(
    asked: GalaxyPosterior, evidence: Observed, theta: Float[np.ndarray, "B P"], row: int
) -> Figure:
    """What image, spectrum and both say of one galaxy."""
    one = evidence_subsets(evidence[row : row + 1])
    samples = {title: asked.posterior.sample(b, SHOWN)[0] for title, b in one.items()}
    return corner(samples, [LABELS[n] for n in asked.posterior.prior.names], theta[row])


def generation_plots(
    generator: Generator, images: Embeddings, true: Spectra, n: int = 100
) -> list[Plot]:
    """Generated spectra beside true ones, and some of no galaxy in particular.

    Args:
        generator: What makes them.
        images: Embeddings of the galaxies' images.
        true: Their spectra: a few, in the same order.
        n: Spectra made for each.
    """
    drawn = generator.sample(n, images)
    free = generator.sample(len(true), seed=1)[0]
    return [
        Plot(
            "Spectra generated for an image",
            spectra_panels(generator, drawn, true),
            f"Orange: 68 % of {n} spectra generated from the image's embedding alone, and one of "
            "them; blue: the galaxy's own spectrum, smoothed, which the network never saw.",
        ),
        Plot(
            "Spectra generated from noise",
            spectra_panels(generator, free[:, None], None),
            "Of no galaxy in particular: draws from the whole population.",
        ),
    ]


@rc_context(STYLE)
def spectra_panels(
    generator: Generator, drawn: Float[np.ndarray, "B S K"], true: Spectra | None
) -> Figure:
    """One row a galaxy: band and one of the generated spectra, and the true one if there is one."""
    figure = Figure(figsize=(7.5, 1.35 * len(drawn)), layout="constrained")
    for row, axes in enumerate(np.ravel(figure.subplots(len(drawn), 1, sharex=True))):
        made = generator.spectra(drawn[row])
        grid = made.wavelength[0]
        if true is not None:
            seen = gaussian_filter1d(true.filled()[row], SMOOTHING)
            axes.plot(true.wavelength[row], seen, color=BLUE, linewidth=0.6)
            low, high = np.quantile(made.flux, [0.16, 0.84], axis=0)
            axes.fill_between(grid, low, high, color=ORANGE, alpha=0.35, linewidth=0)
        axes.plot(grid, made.flux[0], color=ORANGE, linewidth=0.7)
        top = np.percentile(made.flux, 99.5) * 1.5
        axes.set(ylim=(min(0.0, float(np.percentile(made.flux, 0.5))), top), yticks=[])
        axes.set_title(_said(drawn[row]), fontsize=8, loc="left", pad=2)
    axes.set_xlabel("wavelength / Å, observed")
    return figure


def _said(drawn: Float[np.ndarray, "S K"]) -> str:
    """The redshifts of generated spectra."""
    if len(drawn) == 1:
        return f"z = {drawn[0, 0]:.3f}"
    low, high = np.quantile(drawn[:, 0], [0.16, 0.84])
    return f"generated z = {low:.3f} … {high:.3f}"
