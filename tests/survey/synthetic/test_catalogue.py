import numpy as np
import pytest

from appulse.survey.synthetic import catalogue
from appulse.survey.synthetic.morphology import CLASSES, draw_morphology


@pytest.fixture(scope="module")
def listed(population):
    return catalogue.properties(population, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "size"), [("log_mstar", 0.26), ("log_zsol", 0.12), ("redshift", 3.34e-5)]
)
def test_errors_have_the_size_named_and_no_bias(population, listed, name, size):
    error = listed[f"{name}_catalogue"] - getattr(population, name)
    error = error / (1 + population.redshift) if name == "redshift" else error
    assert error.std() == pytest.approx(size, rel=0.06)
    assert abs(error.mean()) < 4 * size / np.sqrt(len(error))


def test_ages_err_in_proportion(population, listed):
    error = np.log10(listed["age_catalogue"] / population.age)
    old = population.age > np.median(population.age)
    assert error[old].std() == pytest.approx(0.13, rel=0.1)
    assert error[~old].std() == pytest.approx(0.13, rel=0.1)


def test_little_star_formation_is_known_badly(population, listed):
    error = listed["log_ssfr_catalogue"] - population.log_ssfr
    active, dead = population.log_ssfr > -10.5, population.log_ssfr < -12.3
    assert error[active].std() == pytest.approx(catalogue.SSFR_ERROR, rel=0.1)
    assert error[dead].std() == pytest.approx(catalogue.SSFR_ERROR_LIMIT, rel=0.1)


def test_errors_are_independent(population, listed):
    names = ("log_mstar", "log_zsol", "log_ssfr")
    errors = [listed[f"{name}_catalogue"] - getattr(population, name) for name in names]
    assert np.abs(np.corrcoef(errors) - np.eye(3)).max() < 0.08


@pytest.fixture(scope="module")
def shape(population):
    return draw_morphology(population, np.random.default_rng(1))


def test_votes_are_fractions_of_volunteers(shape):
    columns = catalogue.votes(shape, np.full(len(shape.kind), 1.2), np.random.default_rng(0))
    votes = np.stack([columns[catalogue.vote_column(name)] for name in CLASSES], axis=1)
    np.testing.assert_allclose(votes.sum(axis=1), 1)
    np.testing.assert_allclose(votes * 44, np.round(votes * 44), atol=1e-9)
    most = np.array(CLASSES)[votes.argmax(axis=1)]
    np.testing.assert_array_equal(most, columns["morphology_catalogue"])


def test_seeing_hides_features(shape):
    """Sharp images are classed rightly; blurred spirals pass for smooth (Willett et al. 2013)."""
    truth = np.array(CLASSES)[shape.kind]
    named = {
        fwhm: catalogue.votes(shape, np.full(len(truth), fwhm), np.random.default_rng(0))
        for fwhm in (0.05, 1.2, 20.0)
    }
    right = [(named[f]["morphology_catalogue"] == truth).mean() for f in (0.05, 1.2, 20.0)]
    assert right[0] > 0.97
    assert right[0] > right[1] > right[2]
    spiral = truth == "spiral"
    smooth = named[20.0]["votes_smooth_disk"] + named[20.0]["votes_elliptical"]
    assert smooth[spiral].mean() > 0.7


def test_mistaken_classes_add_up():
    np.testing.assert_allclose([sum(catalogue.MISTAKEN[k]) for k in range(len(CLASSES))], 1)
