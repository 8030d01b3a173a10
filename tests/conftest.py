"""Shapes and types are checked in every test; one small run of the pipeline is shared by all."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("appulse", "beartype.beartype")

# New examples belong on a developer's machine; a commit that passed once passes again in CI.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


# A shell ignores Ctrl-C for what it runs in the background; tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and frozen reference numbers, beside the repository; never shipped."""
    path = Path(__file__).resolve().parents[1].parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no reference data at {path}")
    return path


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a Python script on two ranks; arguments follow it."""

    def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        path.write_text(script)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", str(path), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return start


GALAXIES, SIZE, SEED = 600, 64, 3


class Run(NamedTuple):
    """Where everything of the run is, laid out as `demo` does, and the recipe that made it."""

    folder: Path
    survey: Path
    spectrum: Path
    align: Path
    embeddings: Path
    recipe: Any


@pytest.fixture(scope="session")
def recipe() -> Any:
    """`tiny`, smaller still: seconds on one core."""
    from dataclasses import replace

    from appulse.image.augment import CropConfig
    from appulse.image.dino_head import DinoHeadConfig
    from appulse.inference.estimator import EstimatorConfig
    from appulse.inference.fitting import FitConfig, PosteriorConfig
    from appulse.recipes import small, tiny

    whole, (image, spectrum) = tiny(), _towers()
    return replace(
        whole,
        image=image,
        spectrum=spectrum,
        inverse_temperature=20.0,
        pretrain_spectrum=replace(
            whole.pretrain_spectrum, steps=20, batch_size=64, warmup=4, validate_every=5
        ),
        objective=replace(
            small().objective,
            crops=CropConfig(whole=48, part=24, parts=2),
            head=DinoHeadConfig(prototypes=32, hidden=32, bottleneck=16),
            warmup=4,
        ),
        pretrain_image=replace(
            whole.pretrain_image, steps=8, batch_size=16, warmup=2, validate_every=4
        ),
        posterior=PosteriorConfig(
            EstimatorConfig(width=16, depth=1, condition=16, outliers=True),
            FitConfig(steps=60, batch_size=64),
        ),
        generator=PosteriorConfig(
            EstimatorConfig(width=16, depth=1, condition=16), FitConfig(steps=60, batch_size=64)
        ),
        align=replace(
            whole.align, steps=80, batch_size=96, learning_rate=3e-3, warmup=8, validate_every=40
        ),
    )


def _towers() -> tuple[Any, Any]:
    """The image's and the spectrum's."""
    from appulse.align.head import HeadConfig
    from appulse.align.towers import ImageTowerConfig, SpectrumTowerConfig
    from appulse.image.vit import VisionTransformerConfig
    from appulse.spectrum.redshift import DictionaryConfig
    from appulse.spectrum.rest import RestConfig
    from appulse.spectrum.transformer import SpectrumTransformerConfig

    head = HeadConfig(width=48, depth=1, heads=2, embedding=16)
    image = VisionTransformerConfig(size=48, patch=12, width=32, depth=1, heads=2)
    spectrum = SpectrumTransformerConfig(patch=160, stride=160, width=32, depth=1, heads=2)
    dictionary, rest = DictionaryConfig(templates=4, seeds=2), RestConfig(3, bin=3e-3, rounds=3)
    return ImageTowerConfig(image, head), SpectrumTowerConfig(spectrum, head, dictionary, rest)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Simulated galaxies."""
    from appulse import pipeline

    path = tmp_path_factory.mktemp("run") / "survey.lance"
    return pipeline.simulate(GALAXIES, path, seed=SEED, size=SIZE, processes=1)


@pytest.fixture(scope="session")
def run(store: Any, recipe: Any) -> Run:
    """The stages up to embeddings, run on `store`; tests must leave it as it is."""
    from appulse import pipeline

    folder = Path(store.path).parent
    parts = ("survey.lance", "spectrum", "align", "embeddings")
    run = Run(folder, *(folder / name for name in parts), recipe=recipe)
    pipeline.pretrain_spectrum(run.survey, run.spectrum, recipe, device="cpu")
    pipeline.align(run.survey, run.spectrum, run.align, recipe, device="cpu")
    pipeline.embed(run.survey, run.align, run.embeddings, device="cpu")
    return run


@pytest.fixture(scope="session")
def galaxies(store: Any) -> Any:
    """A few galaxies of `store`."""
    return store.read(range(20))


@pytest.fixture
def model(recipe: Any, galaxies: Any) -> Any:
    """An untrained model in which no weight is 0 and templates are spectra: all parts speak."""
    import torch

    from appulse.align.model import Model
    from appulse.spectrum.redshift import unit_templates

    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(recipe.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1:  # the temperature stays
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    dictionary, rest = model.spectrum.dictionary, model.spectrum.rest
    rest.components = torch.randn(rest.components.shape, generator=rng)
    noise = torch.randn(dictionary.templates.shape, generator=rng)
    dictionary.templates = unit_templates(noise)
    dictionary.calibrate(galaxies.spectra, galaxies.columns["redshift_true"])
    model.standardise(
        model.image.prepare(galaxies.images).features,
        model.spectrum.prepare(galaxies.spectra).features,
    )
    return model.eval()


class Files(NamedTuple):
    """What a user may have on disk of the first test galaxies of `store`.

    Cutouts of galaxies 0 to 9 and another one 0.3 arcsec beside number 5, a file that is no
    image, and one coadd of the spectra of 2 to 11, whose TARGETID is 1000 plus the number.
    """

    folder: Path
    cutouts: list[Path]
    coadd: Path
    broken: Path
    galaxies: Any


@pytest.fixture(scope="session")
def files(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """FITS files as the Legacy Surveys viewer and DESI write them."""
    folder = tmp_path_factory.mktemp("files")
    galaxies = store.read(store.rows("test")[:12])
    cutouts = [folder / f"galaxy-{i:02d}.fits" for i in range(10)]
    for i, path in enumerate(cutouts):
        _write_cutout(path, galaxies.images[i])
    _write_cutout(folder / "beside-05.fits", galaxies.images[5], offset=0.3)
    _write_coadd(folder / "coadd.fits", galaxies.spectra[2:], 1002)
    (folder / "broken.fits").write_text("hello")
    return Files(folder, cutouts, folder / "coadd.fits", folder / "broken.fits", galaxies)


def _write_cutout(path: Path, image: Any, offset: float = 0.0) -> None:
    """As legacysurvey/imagine does (views.py, write_cutout)."""
    import numpy as np
    from astropy.io import fits

    size, scale = image.flux.shape[-1], float(image.pixel_scale[0]) / 3600
    header = fits.Header({"SURVEY": "LegacySurvey", "IMAGETYP": "IMAGE", "BANDS": "grz"})
    header.update({f"BAND{i}": band for i, band in enumerate("grz")})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    header.update({"CRVAL1": image.ra[0], "CRVAL2": image.dec[0] + offset / 3600})
    header.update({"CRPIX1": (size + 1) / 2, "CRPIX2": (size + 1) / 2})
    header.update({"CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale})
    observed = np.where(image.flux[0] == 0, 1e-7, image.flux[0])  # there, 0 means not observed
    fits.PrimaryHDU(observed, header).writeto(path)


def _write_coadd(path: Path, spectra: Any, first: int) -> None:
    """As desispec.io.write_spectra does, with the arms merged."""
    import numpy as np
    from astropy.io import fits

    n = len(spectra)
    columns = [
        fits.Column("TARGETID", "K", array=np.arange(first, first + n)),
        fits.Column("TARGET_RA", "D", array=spectra.ra),
        fits.Column("TARGET_DEC", "D", array=spectra.dec),
        fits.Column("OBJTYPE", "3A", array=np.full(n, "TGT")),
    ]
    arrays = {
        "WAVELENGTH": spectra.wavelength[0],
        "FLUX": spectra.flux,
        "IVAR": spectra.ivar,
        "MASK": spectra.mask.astype(np.int32),
    }
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="FIBERMAP")]
    hdus += [fits.ImageHDU(array, name=f"BRZ_{name}") for name, array in arrays.items()]
    fits.HDUList(hdus).writeto(path)


@pytest.fixture(scope="session")
def interrupting() -> Any:
    """Makes of a function one that gets Ctrl-C at some call of it."""

    def interrupting_at(function: Any, call: int) -> Any:
        calls = []

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                signal.raise_signal(signal.SIGINT)
            return function(*args, **kwargs)

        return interrupted

    return interrupting_at
