import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score

from appulse import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_r2_is_sklearns(rng):
    true = rng.normal(size=50)
    predicted = true + 0.3 * rng.normal(size=50)
    assert metrics.r2(predicted, true) == pytest.approx(r2_score(true, predicted))
    assert metrics.r2(np.full(50, true.mean()), true) == pytest.approx(0)


def test_r2_of_one_value_is_refused():
    with pytest.raises(ValueError, match=r"all 3 true values are 2\.0"):
        metrics.r2(np.zeros(3), np.full(3, 2.0))


def test_redshift_scores_by_hand():
    z_true = np.array([0.0, 1.0, 1.0, 3.0, 0.0])
    z = np.array([0.01, 1.04, 1.0, 3.4, 0.2])  # errors .01, .02, 0, .1, .2
    assert metrics.bias(z, z_true) == pytest.approx(0.02)
    assert metrics.nmad(z, z_true) == pytest.approx(1.4826 * 0.02)  # |e - .02|: .01 0 .02 .08 .18
    assert metrics.fraction_within(z, z_true, 0.05) == pytest.approx(0.6)
    assert metrics.outlier_fraction(z, z_true, 0.15) == pytest.approx(0.2)


def test_nmad_of_gaussian_errors_is_their_sigma_whatever_the_bias(rng):
    z_true = rng.uniform(0, 0.5, 200_000)
    z = z_true + (1 + z_true) * rng.normal(0.1, 0.02, z_true.size)
    assert metrics.nmad(z, z_true) == pytest.approx(0.02, rel=0.01)
    assert metrics.bias(z, z_true) == pytest.approx(0.1, rel=0.01)


def test_a_missing_redshift_is_a_failure():
    z, z_true = np.array([np.nan, 0.1]), np.array([0.1, 0.1])
    assert metrics.fraction_within(z, z_true, 0.003) == 0.5
    assert metrics.outlier_fraction(z, z_true, 0.15) == 0.5


def test_class_scores_are_sklearns(rng):
    true = rng.choice(["disk", "elliptical", "rare"], 300, p=[0.6, 0.35, 0.05])
    predicted = np.where(rng.random(300) < 0.7, true, "disk")
    assert metrics.accuracy(predicted, true) == pytest.approx(accuracy_score(true, predicted))
    expected = balanced_accuracy_score(true, predicted)
    assert metrics.balanced_accuracy(predicted, true) == pytest.approx(expected)


def test_partner_ranks_are_positions_in_a_sorted_list(rng):
    similarity = rng.normal(size=(40, 40))
    order = np.argsort(-similarity, axis=1)
    expected = [list(order[i]).index(i) + 1 for i in range(40)]
    np.testing.assert_array_equal(metrics.partner_ranks(similarity), expected)


def test_a_collapsed_space_ranks_last():
    assert metrics.partner_ranks(np.ones((7, 7))).tolist() == [7] * 7


def test_similarity_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        metrics.partner_ranks(np.full((2, 2), np.nan))


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(1, 100))
def test_recall_counts(ranks, k):
    expected = sum(rank <= k for rank in ranks) / len(ranks)
    assert metrics.recall_at_k(np.array(ranks), k) == pytest.approx(expected)


def test_bootstrap_interval_of_a_mean_is_the_textbooks(rng):
    sample = rng.normal(3, 2, 400)
    value, low, high = metrics.bootstrap(lambda x: float(x.mean()), sample, n=4000)
    half_width = 1.96 * sample.std() / 20
    assert value == pytest.approx(sample.mean())
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.05)
    assert (high + low) / 2 == pytest.approx(sample.mean(), abs=0.1 * half_width)


def test_bootstrap_keeps_rows_together(rng):
    """Two methods with the same large errors: the paired difference is exactly known."""
    true = rng.normal(size=200)
    a = true + rng.normal(size=200)
    difference = metrics.bootstrap(
        lambda a, b, t: float(np.mean(a - t) - np.mean(b - t)), a, a - 0.1, true, n=200
    )
    np.testing.assert_allclose(difference, 0.1)


def test_bootstrap_depends_on_the_seed_alone(rng):
    sample = rng.normal(size=30)
    first, again, other = (
        metrics.bootstrap(lambda x: float(x.mean()), sample, n=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
