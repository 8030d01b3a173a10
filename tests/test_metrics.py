import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, r2_score

from appulse import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_r2_is_sklearns(rng):
    true = rng.normal(size=50)
    predicted = true + 0.3 * rng.normal(size=50)
    assert metrics.r2(predicted, true) == pytest.approx(r2_score(true, predicted))
    assert metrics.r2(np.full(50, true.mean()), true) == pytest.approx(0)


def test_mean_r2_is_sklearns_uniform_average(rng):
    true = rng.normal(size=(50, 3)) * [1.0, 10.0, 0.1]
    predicted = true + rng.normal(size=(50, 3))
    assert metrics.mean_r2(predicted, true) == pytest.approx(r2_score(true, predicted))


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


def test_chance_of_an_assignment_counts_every_pairing(rng):
    for _ in range(5):
        cost = rng.integers(0, 7, (6, 6))
        totals = np.array([cost[range(6), p].sum() for p in itertools.permutations(range(6))])
        expected = np.mean(totals <= np.trace(cost))
        assert metrics.assignment_chance(cost) == pytest.approx(expected, rel=1e-12)


def test_only_few_rows_have_their_pairings_counted():
    with pytest.raises(ValueError, match="17 rows; expected at most 16"):
        metrics.assignment_chance(np.ones((17, 17), int))


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
    expected = f1_score(true, predicted, average="macro")
    assert metrics.macro_f1(predicted, true) == pytest.approx(expected)


def test_macro_f1_counts_classes_that_were_only_predicted():
    predicted, true = np.array(["a", "b", "c"]), np.array(["a", "b", "b"])
    assert metrics.macro_f1(predicted, true) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_vote_fraction_error_by_hand():
    votes = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert metrics.vote_fraction_error(votes, votes) == 0
    assert metrics.vote_fraction_error(votes, np.full((2, 2), 0.4)) == pytest.approx(1.2 / 4)


def test_cde_loss_of_a_gaussian_is_the_closed_form(rng):
    grid, sigma, true = np.linspace(-6, 6, 2001), 0.5, rng.normal(0, 0.5, 30)
    density = np.tile(norm.pdf(grid, 0, sigma), (30, 1))
    expected = 1 / (2 * sigma * np.sqrt(np.pi)) - 2 * norm.pdf(true, 0, sigma)
    np.testing.assert_allclose(metrics.cde_loss(density, grid, true), expected, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.6, 1.6])
def test_cde_loss_is_least_for_the_true_density(rng, sigma):
    grid, true = np.linspace(-9, 9, 1001), rng.normal(size=4000)
    right, wrong = (
        metrics.cde_loss(np.tile(norm.pdf(grid, 0, s), (4000, 1)), grid, true).mean()
        for s in (1, sigma)
    )
    assert right < wrong


def test_cde_loss_refuses_what_is_no_density():
    grid = np.linspace(0, 1, 11)
    with pytest.raises(ValueError, match=r"integrates to 0\.5 on the grid"):
        metrics.cde_loss(np.full((1, 11), 0.5), grid, np.array([0.5]))
    with pytest.raises(ValueError, match="the grid must rise"):
        metrics.cde_loss(np.ones((1, 11)), grid[::-1], np.array([0.5]))


def test_ranks_in_pools_are_what_drawing_pools_gives(rng):
    similarity = rng.normal(size=200)  # of a query; its partner is the first
    rank = int((similarity >= similarity[0]).sum())
    drawn = [
        1 + (similarity[1 + rng.permutation(199)[:49]] > similarity[0]).sum() for _ in range(4000)
    ]
    expected = metrics.ranks_in_pools(np.array([rank]), candidates=200, pool=50)[0]
    assert expected == pytest.approx(np.mean(drawn), rel=0.02)
    assert metrics.ranks_in_pools(np.array([1, 200]), 200, 50).tolist() == [1, 50]
    with pytest.raises(ValueError, match="a pool of 201 of 200 candidates"):
        metrics.ranks_in_pools(np.array([1]), 200, 201)


def test_partner_ranks_are_positions_in_a_sorted_list(rng):
    similarity = rng.normal(size=(40, 40))
    order = np.argsort(-similarity, axis=1)
    expected = [list(order[i]).index(i) + 1 for i in range(40)]
    np.testing.assert_array_equal(metrics.partner_ranks(similarity), expected)


def test_neighbour_mean_leaves_the_partner_out(rng):
    similarity, values = rng.normal(size=(30, 30)), rng.normal(size=30)
    values[3] = np.nan
    expected = []
    for i in range(30):
        order = [j for j in np.argsort(-similarity[i]) if j != i][:10]
        expected.append(np.mean([values[j] for j in order if j != 3]))
    np.testing.assert_allclose(metrics.neighbour_mean(similarity, values), expected)


def test_neighbours_of_whom_nothing_is_known_have_no_mean():
    values = np.array([1.0, np.nan, np.nan])
    mean = metrics.neighbour_mean(np.eye(3), values, k=2)
    np.testing.assert_array_equal(mean, [np.nan, 1.0, 1.0])


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


def test_the_difference_of_methods_is_of_the_same_rows(rng):
    """Two methods with the same large errors: the paired difference is exactly known."""
    true = rng.normal(size=200)
    ours = true + rng.normal(size=200)

    def mean_error(predicted, true):
        return float(np.mean(predicted - true))

    difference = metrics.difference(mean_error, ours, ours - 0.1, true, n=200)
    np.testing.assert_allclose(difference, 0.1)


def test_binned_scores_are_those_of_the_rows_inside(rng):
    z, error = rng.uniform(0, 1, 300), rng.normal(size=300)
    z[:5] = 2.5  # too few for the last bin

    def mean(x):
        return float(x.mean())

    first, second = metrics.binned(mean, z, [0.0, 0.3, 1.0, 3.0], error, n=50)
    assert (first.low, first.high, second.high) == (0, 0.3, 1)
    inside = error[(z >= 0.3) & (z < 1)]
    assert second.rows == len(inside)
    assert second.estimate == metrics.bootstrap(mean, inside, n=50)


def test_bootstrap_depends_on_the_seed_alone(rng):
    sample = rng.normal(size=30)
    first, again, other = (
        metrics.bootstrap(lambda x: float(x.mean()), sample, n=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_rounding_does_not_hide_that_all_truths_are_equal():
    for value, n in ((0.1, 50), (8.7, 1000)):
        with pytest.raises(ValueError, match="R² needs them to differ"):
            metrics.r2(np.zeros(n), np.full(n, value))


def test_draws_of_equal_truths_do_not_count(rng):
    """One positive of fifteen is missing from a third of the draws."""
    true = np.zeros(15)
    true[3] = 1
    found = metrics.bootstrap(metrics.r2, true + 0.1 * rng.normal(size=15), true)
    assert found.low <= found.value <= found.high


def test_a_row_has_not_as_many_neighbours_as_there_are_rows(rng):
    with pytest.raises(ValueError, match="k is 10, of 10 rows; expected 1 to 9"):
        metrics.neighbour_mean(rng.normal(size=(10, 10)), np.zeros(10), 10)
