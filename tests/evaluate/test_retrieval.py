import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from appulse.evaluate.protocol import score
from appulse.evaluate.retrieval import Matches, pool_rows, queries, rank, ranks_by_pool


def score_matches(matches, labels):
    """Results of both directions."""
    asked = queries(labels, len(matches.image))
    return [r for found in rank(matches, labels) for r in score([found], asked)]


@pytest.mark.parametrize(("n", "size"), [(33, 11), (100, 33), (2999, 999), (5000, 1000)])
def test_pools_are_disjoint_and_whole(n, size):
    pools = pool_rows(n)
    assert [len(pool) for pool in pools] == [size] * 3
    rows = np.concatenate(pools)
    assert len(np.unique(rows)) == 3 * size
    assert rows.max() < n


def test_too_few_galaxies_are_refused():
    with pytest.raises(
        ValueError, match="32 test galaxies make pools of 10; top-10 needs more than 32"
    ):
        pool_rows(32)


def test_ranks_are_those_within_each_pool():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(120, 4))
    spectrum = image + 0.5 * rng.normal(size=(120, 4))
    results = score_matches(Matches("m", image, spectrum, 0), {})
    for direction, query, other in (
        ("image → spectrum", image, spectrum),
        ("spectrum → image", spectrum, image),
    ):
        ranks = []
        for pool in pool_rows(120):
            for i in pool:
                cosine = {
                    j: query[i] @ other[j] / np.linalg.norm(query[i]) / np.linalg.norm(other[j])
                    for j in pool
                }
                ranks.append(sorted(cosine, key=lambda j, c=cosine: -c[j]).index(i) + 1)
        found = {r.metric: r.value for r in results if r.modality == direction}
        for k in (1, 5, 10):
            assert found[f"top-{k}"] == pytest.approx(np.mean(np.array(ranks) <= k))
        assert found["median rank"] == np.median(ranks)


def test_vectors_that_know_nothing_find_by_chance():
    rng = np.random.default_rng(0)
    matches = Matches("m", rng.normal(size=(900, 16)), rng.normal(size=(900, 16)), 0)
    found = {r.metric: r for r in score_matches(matches, {}) if r.modality == "image → spectrum"}
    assert found["top-10"].low < 10 / 300 < found["top-10"].high
    assert found["median rank"].value == pytest.approx(150, rel=0.15)


def test_another_similarity_than_the_cosine():
    """Rows on one line: the cosine cannot tell them apart, the distance can."""
    line = np.linspace(1, 2, 60)[:, None] * np.ones((1, 3))
    by_distance = Matches("m", line, line, 0, similarity=lambda a, b: -euclidean_distances(a, b))
    assert score_matches(by_distance, {})[0].value == 1
    assert score_matches(Matches("m", line, line, 0), {})[0].value < 1


def test_the_median_rank_falls_with_the_pool_as_it_should():
    """Rank r of 300 is expected at 1 + (r - 1) 29 / 299 of 30."""
    rng = np.random.default_rng(0)
    matches = Matches("m", rng.normal(size=(900, 16)), rng.normal(size=(900, 16)), 0)
    found = rank(matches, {})[0]
    by_size = {r.metric: r.value for r in ranks_by_pool([found], 900)}
    assert set(by_size) == {"median rank of 30", "median rank of 100"}
    whole = np.median(found.values["partner"])
    assert by_size["median rank of 30"] == pytest.approx(1 + (whole - 1) * 29 / 299)


def test_likeness_of_neighbours_is_one_where_the_space_is_the_property():
    z = np.random.default_rng(0).uniform(0, 1, 900)
    circle = np.stack([np.cos(z), np.sin(z)], axis=1)
    age = np.where(np.arange(900) % 7 == 0, np.nan, z)
    results = score_matches(Matches("m", circle, circle, 0), {"redshift": z, "age": age})
    likeness = {r.target: r.value for r in results if r.metric == "neighbours' R²"}
    assert likeness["redshift"] > 0.999
    noise = np.random.default_rng(1).normal(size=(900, 8))
    results = score_matches(Matches("m", noise, noise, 0), {"redshift": z})
    assert all(r.value < 0.1 for r in results if r.metric == "neighbours' R²")
