import numpy as np
import pytest

from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig, PosteriorConfig
from appulse.search.embeddings import Embeddings
from appulse.spectrum.rest import RestConfig
from appulse.survey.spectra import Spectra
from appulse.tasks.generate import Generator, latents
from appulse.units import desi_grid

N = 600
QUICK = PosteriorConfig(EstimatorConfig(width=32, depth=2, condition=32), FitConfig(steps=400))
REST = RestConfig(components=2, bin=3e-3, rounds=6)


def galaxies(n=N, seed=0):
    """The image tells the strength of a line; redshift and brightness are anyone's."""
    rng = np.random.default_rng(seed)
    z, strength = rng.uniform(0.02, 0.4, n), rng.normal(size=n)
    rest = desi_grid() / (1 + z[:, None])
    line = np.exp(-((rest - 5000) ** 2) / (2 * 20.0**2))
    flux = np.exp(rng.normal(size=(n, 1))) * (
        1 + 0.2 * (rest / 5000 - 1) + strength[:, None] * line
    )
    spectra = Spectra.from_arrays(flux + 0.05 * rng.normal(size=flux.shape), ivar=400.0)
    image = np.stack([strength, rng.normal(size=n)], 1)
    return spectra, z, Embeddings(spectra.ids, image, "image", "model A"), strength


@pytest.fixture(scope="module")
def generator():
    return Generator.fit(*galaxies()[:3], QUICK, REST, device="cpu")


def line_strength(spectra, z):
    rest = spectra.wavelength / (1 + z[:, None])
    inside, beside = np.abs(rest - 5000) < 5, np.abs(np.abs(rest - 5000) - 110) < 20
    peak, level = ((spectra.flux * w).sum(1) / w.sum(1) for w in (inside, beside))
    return peak / level - 1


def test_spectra_follow_the_image(generator):
    _, _, images, strength = galaxies(30, seed=1)
    drawn = generator.sample(20, images)
    assert drawn.shape == (30, 20, 4)
    made = line_strength(generator.spectra(drawn.reshape(-1, 4)), drawn[..., 0].ravel())
    error = made.reshape(30, 20) - strength[:, None]
    assert np.abs(error.mean(1)).mean() < 0.25
    assert np.median(error.std(1)) < 0.4


def test_without_an_image_they_are_of_the_whole_population(generator):
    drawn = generator.sample(500)[0]
    truth = latents(generator.space, *galaxies(500, seed=2)[:2])
    made = line_strength(generator.spectra(drawn), drawn[:, 0])
    assert made.mean() == pytest.approx(0, abs=0.2)
    assert made.std() == pytest.approx(1, abs=0.2)
    for k in (0, 1):
        assert drawn[:, k].mean() == pytest.approx(truth[:, k].mean(), abs=0.25 * truth[:, k].std())
        assert drawn[:, k].std() == pytest.approx(truth[:, k].std(), rel=0.25)
    assert (drawn[:, 0] > 0).all()


def test_it_survives_saving(generator, tmp_path):
    generator.save(tmp_path)
    again = Generator.load(tmp_path, "cpu")
    images = galaxies(3, seed=3)[2]
    drawn = generator.sample(4, images)
    np.testing.assert_array_equal(again.sample(4, images), drawn)
    np.testing.assert_array_equal(again.spectra(drawn[0]).flux, generator.spectra(drawn[0]).flux)


def test_what_does_not_fit_is_refused(generator, tmp_path):
    spectra, z, images, _ = galaxies(100)
    with pytest.raises(ValueError, match="not of the same galaxies"):
        Generator.fit(spectra, z, images[::-1])
    other = Embeddings(images.ids, images.vectors, "image", "model B")
    with pytest.raises(ValueError, match=r"of model model B; .* those of model A"):
        generator.sample(2, other)
    generator.posterior.save(tmp_path)
    with pytest.raises(ValueError, match="holds no generator of spectra"):
        Generator.load(tmp_path)


def test_galaxies_without_redshift_are_left_out_and_images_must_be_known(tmp_path):
    spectra, z, images, _ = galaxies(60)
    z[:5] = np.nan
    quick = PosteriorConfig(QUICK.estimator, FitConfig(steps=2))
    made = Generator.fit(spectra, z.astype(np.float32), images, quick, REST, device="cpu")
    made.save(tmp_path)
    assert Generator.load(tmp_path, "cpu").sample(2).shape == (1, 2, 4)
    images.vectors[7] = np.nan
    with pytest.raises(ValueError, match="1 of 60 images have no embedding, such as"):
        made.sample(2, images)
    with pytest.raises(ValueError, match="0 of 60 galaxies have a positive redshift"):
        Generator.fit(spectra, np.zeros(60), images, quick, REST)
