"""Spectra made from noise, or for the image of a galaxy, by flow matching.

Shapes: B galaxies, S spectra of each, D embedding, K components.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from dacite import Config, from_dict
from jaxtyping import Float

from ..inference.estimator import EstimatorConfig
from ..inference.fitting import FEWEST, FitConfig, PosteriorConfig
from ..inference.posterior import Posterior
from ..inference.prior import IndependentPrior, Marginal, Normal, Positive
from ..search.embeddings import Embeddings
from ..spectrum.rest import RestConfig, RestSpace
from ..survey.spectra import Spectra
from ..training.run import load_tensors, save_tensors

COMPONENTS = "components.safetensors"
NOTHING = "nothing"  # evidence that says nothing: what is asked for spectra of any galaxies
NEAREST = 0.003  # redshift below which its density bends, to stay above 0
CONFIG = PosteriorConfig(
    EstimatorConfig(depth=3, dropout=0.1),
    FitConfig(passes=400.0, batch_size=512, weight_decay=0.3),
)
Latents = Float[np.ndarray, "B K"]  # redshift, ln brightness, coordinates in the rest frame


class Generator:
    """A flow of redshift, brightness and shape of spectra, given an image or nothing.

    Shapes are coordinates in a `RestSpace`, so that lines stay sharp at any redshift. One flow is
    trained for both questions: the image is hidden from some of the galaxies.
    """

    def __init__(self, space: RestSpace, posterior: Posterior):
        self.space, self.posterior = space, posterior

    @classmethod
    def fit(
        cls,
        spectra: Spectra,
        redshift: Float[np.ndarray, "B"],
        images: Embeddings,
        config: PosteriorConfig = CONFIG,
        rest: RestConfig | None = None,
        *,
        run: Path | None = None,
        device: str = "auto",
    ) -> "Generator":
        """Learns from galaxies with image and spectrum, in the same order.

        Those without a positive redshift are left out.

        Raises:
            ValueError: If the rows do not match, or are too few.
        """
        if not np.array_equal(spectra.ids, images.ids):
            raise ValueError("images and spectra are not of the same galaxies, in the same order")
        rows = np.flatnonzero(np.isfinite(redshift) & (redshift > 0))
        if len(rows) < FEWEST:
            raise ValueError(
                f"{len(rows)} of {len(redshift)} galaxies have a positive redshift; expected "
                f"{FEWEST} or more to learn from"
            )
        spectra, redshift, images = spectra[rows], redshift[rows], images[rows]
        space = RestSpace(rest or RestConfig()).fit(spectra, redshift)
        theta = latents(space, spectra, redshift)
        names = ("redshift", "log_brightness", *(f"h{k}" for k in range(space.config.components)))
        scales = zip(names, theta.mean(0), theta.std(0), strict=True)
        marginals: dict[str, Marginal] = {n: Normal(float(m), float(s)) for n, m, s in scales}
        marginals["redshift"] = Positive(float(redshift.mean()), float(redshift.std()), NEAREST)
        prior, context = IndependentPrior(marginals), _context(images.evidence)
        posterior = Posterior.fit(theta, context, prior, config, run=run, device=device)
        posterior.about = {"model_hash": images.model_hash}
        return cls(space, posterior)

    def sample(
        self, n: int, images: Embeddings | None = None, *, seed: int = 0
    ) -> Float[np.ndarray, "B {n} K"]:
        """Redshift, ln brightness and coordinates: n for each image, or n of any galaxies (B = 1).

        Raises:
            ValueError: If the embeddings are of another model than those learned from, or there
                is none of a galaxy.
        """
        ours = self.posterior.about["model_hash"]
        if images is not None and images.model_hash != ours:
            raise ValueError(
                f"these embeddings are of model {images.model_hash}; the generator was learned "
                f"from those of {ours}: embed again with that model, or fit a generator to this one"
            )
        if images is not None and not (known := np.isfinite(images.evidence).all(1)).all():
            raise ValueError(
                f"{(~known).sum()} of {len(known)} images have no embedding, such as "
                f"{str(images.ids[~known][0])!r}; leave them out"
            )
        context = {NOTHING: np.zeros((1, 1))} if images is None else _context(images.evidence)
        return self.posterior.sample(context, n, seed=seed)

    def spectra(self, latents: Latents) -> Spectra:
        """Noise-free spectra on the DESI grid."""
        flux = self.space.decode(latents[:, 2:], latents[:, 1], latents[:, 0])
        return Spectra.from_arrays(flux, ivar=1e6)

    def save(self, path: str | Path) -> None:
        """Writes a folder."""
        self.posterior.about["rest"] = asdict(self.space.config)
        save_tensors(Path(path) / COMPONENTS, self.space.state_dict())
        self.posterior.save(path)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Generator":
        """Reads what `save` wrote.

        Raises:
            ValueError: If the folder holds no generator.
        """
        posterior, components = Posterior.load(path, device), Path(path) / COMPONENTS
        if not components.exists():
            raise ValueError(f"{path} holds no generator of spectra: it has no {COMPONENTS}")
        space = RestSpace(from_dict(RestConfig, posterior.about["rest"], Config(strict=True)))
        space.load_state_dict(load_tensors(components))
        return cls(space, posterior)


def latents(space: RestSpace, spectra: Spectra, redshift: Float[np.ndarray, "B"]) -> Latents:
    """Redshift, ln brightness and coordinates of spectra."""
    coordinates, log_brightness = space.encode(spectra, redshift)
    return np.column_stack([redshift, log_brightness, coordinates])


def _context(images: Float[np.ndarray, "B D"]) -> dict[str, np.ndarray]:
    return {"image": images, NOTHING: np.zeros((len(images), 1))}
