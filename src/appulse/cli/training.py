"""Commands that train: each setting of the recipe is an option."""

from pathlib import Path

from .. import pipeline, posteriors
from ..recipes import Recipe
from .options import Device
from .settings import with_settings


@with_settings(
    unused="spectrum__head", training="pretrain_spectrum", masking="masking", spectrum="spectrum"
)
def pretrain_spectrum(*, survey: Path, out: Path, recipe: Recipe, device: Device = "auto") -> None:
    """Train the spectrum transformer by masked modelling, and the shift dictionary.

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    out
        Run folder; an unfinished run there goes on.
    """
    pipeline.pretrain_spectrum(survey, out, recipe, device=device)
    print(out)


@with_settings(
    unused="image__head", training="pretrain_image", objective="objective", image="image"
)
def pretrain_image(*, survey: Path, out: Path, recipe: Recipe, device: Device = "auto") -> None:
    """Train the image transformer: by contrast of views, or by self-distillation (DINOv2).

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    out
        Run folder; an unfinished run there goes on.
    """
    pipeline.pretrain_image(survey, out, recipe, device=device)
    print(out)


@with_settings(
    training="align",
    learning="learning",
    inverse_temperature="inverse_temperature",
    image="image",
    spectrum="spectrum",
)
def align(
    *,
    survey: Path,
    spectrum: Path,
    out: Path,
    recipe: Recipe,
    image: Path | None = None,
    device: Device = "auto",
) -> None:
    """Align an image tower with a pretrained spectrum tower by contrastive learning.

    Parameters
    ----------
    survey
        Survey store; its encoder-train part is learned from.
    spectrum
        Run folder of `appulse pretrain spectrum`; sizes that were changed there are changed here
        by the same options.
    out
        Run folder; an unfinished run there goes on.
    image
        Run folder of `appulse pretrain image` to start from; at random if left out, but needed for
        the recipe `paper`, whose trunks stay as they are.
    """
    pipeline.align(survey, spectrum, out, recipe, image_run=image, device=device)
    print(out)


@with_settings(posterior="posterior")
def posterior(
    *, survey: Path, embeddings: Path, out: Path, recipe: Recipe, device: Device = "auto"
) -> None:
    """Learn the joint posterior of redshift, mass, age, metallicity and star formation.

    From any of image, spectrum and g, r, z photometry, by flow matching.

    Parameters
    ----------
    survey
        Survey store; its head-train part is learned from.
    embeddings
        Folder that `appulse embed --survey` wrote for it.
    out
        Run folder; an unfinished run there goes on.
    """
    posteriors.posterior(survey, embeddings, out, recipe.posterior, device=device)
    print(out)
