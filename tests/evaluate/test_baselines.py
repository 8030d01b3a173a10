import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from appulse.evaluate import baselines
from appulse.evaluate.baselines import (
    SOFTENING,
    Boosting,
    PhotometryMatch,
    TemplateMatch,
    brightness,
    image_pixels,
    magnitudes_and_colours,
    spectrum_pixels,
)
from appulse.metrics import accuracy, fraction_within, partner_ranks, r2, redshift_error
from appulse.survey.spectra import Spectra


def test_bright_sources_get_ordinary_magnitudes_and_colours():
    """Far above the softening, asinh magnitudes are ln flux and differences are ln ratios."""
    flux = np.array([[[100.0, 200.0], [300.0, 800.0], [500.0, 900.0]]])
    features = magnitudes_and_colours(flux)[0]
    log = np.log(2 * flux[0] / SOFTENING)
    colour, growth = np.diff(log, axis=0), np.diff(log, axis=1)
    expected = np.concatenate([log.ravel(), colour.ravel(), growth.ravel()])
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_negative_fluxes_stay_finite_and_ordered():
    flux = np.linspace(-5, 5, 11)[:, None, None] * np.ones((1, 3, 1))
    assert (np.diff(magnitudes_and_colours(flux)[:, 0]) > 0).all()


@pytest.mark.parametrize("size", [32, 70, 96])
def test_image_pixels_are_means_of_the_centre(size):
    flux = np.random.default_rng(0).normal(0, 0.01, (2, 3, size, size))
    pixels = image_pixels(flux).reshape(2, 3, 32, 32)
    step = size // 32
    start = (size - 32 * step) // 2
    for y, x in ((0, 0), (5, 31), (16, 7)):
        block = flux[:, :, start + y * step :, start + x * step :][:, :, :step, :step]
        np.testing.assert_allclose(np.sinh(pixels[:, :, y, x]) * 0.02, block.mean((2, 3)))


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="16×16 pixels cannot be binned to 32×32"):
        image_pixels(np.zeros((1, 3, 16, 16)))


def test_spectrum_pixels_forget_brightness_and_brightness_keeps_it():
    rng = np.random.default_rng(0)
    flux = 5 + np.sin(np.linspace(0, 9, 7781)) + 0.1 * rng.normal(size=(1, 7781))
    spectra = Spectra.from_arrays(np.concatenate([flux, 30 * flux]), ivar=np.full((2, 7781), 100.0))
    faint, bright = spectrum_pixels(spectra)
    np.testing.assert_allclose(faint, bright, rtol=1e-4)
    assert np.median(faint) == pytest.approx(1, abs=0.01)
    assert np.diff(brightness(spectra)[:, 0]) == pytest.approx(np.log10(30), abs=1e-4)


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)

    def make(n):
        x = rng.uniform(-1, 1, (n, 4))
        y = np.stack([np.abs(x[:, 0]) + x[:, 1], np.sign(x[:, 2])], axis=1)
        return x, y + 0.05 * rng.normal(size=y.shape), np.where(x[:, 0] * x[:, 1] > 0, "a", "b")

    return make(800), make(300), make(300)


def test_boosting_learns_numbers_with_holes_and_classes(parts):
    (x, y, names), (x_val, y_val, names_val), (x_test, y_test, names_test) = parts
    holes = y.copy()
    holes[::2, 1] = np.nan
    predicted = Boosting.fit(x, holes, x_val, y_val).predict(x_test)
    assert r2(predicted[:, 0], y_test[:, 0]) > 0.9
    assert r2(predicted[:, 1], y_test[:, 1]) > 0.9
    classes = Boosting.fit(x, names, x_val, names_val).predict(x_test)
    assert accuracy(classes, names_test) > 0.9


def test_boosting_stops_on_the_validation_part(parts):
    """With a validation part of pure noise there is nothing to gain: it stops at once."""
    (x, y, _), (x_val, _, _), (x_test, _, _) = parts
    noise = y.mean(axis=0) + np.random.default_rng(1).normal(size=(len(x_val), 2))
    informed = Boosting.fit(x, y, x_val, parts[1][1]).predict(x_test)
    stopped = Boosting.fit(x, y, x_val, noise).predict(x_test)
    assert (stopped.std(axis=0) < 0.8 * informed.std(axis=0)).all()


def test_photometry_match_finds_partners_by_mahalanobis_distance():
    """Two apertures whose errors differ by 30 times: only whitening makes the good one count."""
    rng = np.random.default_rng(0)

    def make(n):
        bands = rng.uniform(1, 5, (n, 6))
        log = np.log(bands[:, :2])
        apertures = 10 * np.exp(log + [0.01, 1.0] * rng.normal(size=(n, 2)))
        return apertures, bands

    train, validation, test = make(2000), make(500), make(300)
    match = PhotometryMatch.fit(*train, *validation)
    image, spectrum = match.image_vectors(test[0]), match.spectrum_vectors(test[1])
    ranks = partner_ranks(-euclidean_distances(image, spectrum))
    magnitudes = np.arcsinh(test[0] / SOFTENING)
    predicted = np.arcsinh(10 * test[1][:, :2] / SOFTENING)
    unweighted = partner_ranks(-euclidean_distances(magnitudes, predicted))
    assert np.median(ranks) < 8 < np.median(unweighted)
    error = match.image_vectors(validation[0]) - match.spectrum_vectors(validation[1])
    np.testing.assert_allclose(np.cov(error.T), np.eye(2), atol=0.02)


def test_photometry_match_is_bayes_theorem_in_both_directions():
    """Of normal magnitudes everything is known: images are ranked by their posterior."""
    rng = np.random.default_rng(0)
    spread, error = 0.5, 0.3

    def make(n):
        log = rng.normal(2, spread, (n, 1))
        bands = np.exp(log + np.array([0, 0.01]))
        return 10 * np.exp(log + error * rng.normal(size=(n, 1))), bands

    match = PhotometryMatch.fit(*make(4000), *make(1000))
    apertures, bands = make(50)
    found = match.similarity(match.image_vectors(apertures), match.spectrum_vectors(bands))
    m, s = np.log(apertures / 10), np.log(bands[:, :1])
    common = spread**2 + error**2
    expected = -((m - s.T) ** 2) / (2 * error**2) + (m - 2) ** 2 / (2 * common)
    expected += 0.5 * np.log(common / error**2)
    near = (np.abs(m - 2) < 1) & (np.abs(m - s.T) < 0.6)  # where the 4,000 are many
    np.testing.assert_allclose(found[near], expected[near], atol=0.3)
    distances = -((m - s.T) ** 2) / (2 * error**2)
    assert np.abs(distances - expected)[near].max() > 1  # a term that differs from image to image


@pytest.fixture(scope="module")
def templates(store):
    """Learned from the redshifts of encoder-train."""
    train = store.take(store.rows("encoder-train"), ["spectra", "redshift_true"])
    return TemplateMatch.fit(train["spectra"], train["redshift_true"])


@pytest.fixture(scope="module")
def bright(store):
    """Test galaxies of high signal-to-noise, inside the redshifts of the templates."""
    rows = store.rows("test", "mag_r < 18.7 AND redshift_true < 0.4")
    return store.take(rows, ["spectra", "redshift_true"])


def test_templates_find_redshifts_of_bright_galaxies(templates, bright):
    assert len(bright["redshift_true"]) > 30
    error = redshift_error(templates.predict(bright["spectra"]), bright["redshift_true"])
    assert np.mean(np.abs(error) < 0.003) > 0.9  # 51 galaxies, blends among them
    assert np.median(np.abs(error)) < 3e-4  # half a bin


def test_templates_know_lines_not_brightness(templates, bright):
    spectra, z = bright["spectra"], templates.predict(bright["spectra"])
    slope = 7 * (spectra.wavelength / 6000) ** 2
    tilted = Spectra.from_arrays(spectra.flux * slope, ivar=spectra.ivar / slope**2)
    assert np.mean(np.abs(templates.predict(tilted) - z) < 1e-3) > 0.9
    blank = np.tile(spectra.flux.mean(axis=1, keepdims=True), spectra.flux.shape[1])
    nothing = templates.predict(Spectra.from_arrays(blank, ivar=spectra.ivar))
    assert np.mean(np.abs(nothing - z) < 0.003) < 0.2


def test_wrong_redshifts_make_useless_templates(store, bright):
    train = store.take(store.rows("encoder-train"), ["spectra", "redshift_true"])
    wrong = np.random.default_rng(0).permutation(train["redshift_true"])
    z = TemplateMatch.fit(train["spectra"], wrong).predict(bright["spectra"])
    assert fraction_within(z, bright["redshift_true"], 0.003) < 0.3


def test_a_quasar_among_galaxies_costs_only_itself(store, bright):
    train = store.take(store.rows("encoder-train"), ["spectra", "redshift_true"])
    z = train["redshift_true"].copy()
    kept = np.arange(1, len(z))
    z[0] = 1.6
    expected = TemplateMatch.fit(train["spectra"][kept], z[kept]).predict(bright["spectra"])
    found = TemplateMatch.fit(train["spectra"], z).predict(bright["spectra"])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_window_holds_most_and_is_the_highest_of_equals():
    width = np.log(1.5)
    assert baselines._highest(np.array([0.1, 0.3, 0.2]), width) == 0.3
    assert baselines._highest(np.array([2.0, 0.1, 0.3, 0.2, 1.9]), width) == 0.3
    assert baselines._highest(np.array([0.1, 0.2, 2.0, 1.9]), width) == 2.0


def test_spectra_in_batches_are_the_same(bright, monkeypatch):
    config = baselines.DictionaryConfig()
    whole = baselines._high_passed(bright["spectra"], config)
    monkeypatch.setattr(baselines, "AT_ONCE", 7)
    for one, other in zip(whole, baselines._high_passed(bright["spectra"], config), strict=True):
        np.testing.assert_array_equal(one, other)
