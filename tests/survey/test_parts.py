import numpy as np
import pytest
from astropy import units
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from appulse.survey.parts import FRACTIONS, PARTS, Split

EDGES = st.lists(st.floats(0, 1), min_size=3, max_size=3)


def names(n: int) -> np.ndarray:
    return np.array([f"target-{i}" for i in range(n)])


def sky(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


@settings(max_examples=20)
@given(edges=EDGES, seed=st.integers(0, 2**31))
def test_sizes_follow_the_fractions_within_binomial_error(edges: list[float], seed: int):
    shares = np.diff([0, *sorted(edges), 1])
    split = Split(dict(zip(PARTS, shares.tolist(), strict=True)), seed=seed)
    n = 2000
    parts = split.assign(names(n), *sky(n))
    for part, share in zip(PARTS, shares, strict=True):
        low, high = binom.interval(1 - 1e-7, n, min(share, 1))
        assert low <= (parts == part).sum() <= high


@settings(max_examples=20)
@given(order=st.permutations(range(50)), by=st.sampled_from(["random", "sky"]))
def test_a_part_depends_on_the_galaxy_alone(order: list[int], by):
    split, ids, (ra, dec) = Split(by=by), names(50), sky(50)
    together = split.assign(ids, ra, dec)
    np.testing.assert_array_equal(split.assign(ids[order], ra[order], dec[order]), together[order])
    np.testing.assert_array_equal(split.assign(ids[:7], ra[:7], dec[:7]), together[:7])


def test_a_cell_of_the_sky_is_in_one_part():
    ra, dec = sky(20_000)
    parts = Split(by="sky").assign(names(20_000), ra, dec)
    cells = HEALPix(16, order="nested").lonlat_to_healpix(ra * units.deg, dec * units.deg)
    assert len({*zip(cells.tolist(), parts.tolist(), strict=True)}) == len(np.unique(cells))
    assert set(parts) == set(PARTS)


def test_the_seed_draws_independent_splits():
    n = 20_000
    one, two = (Split(seed=seed).assign(names(n), *sky(n)) == "test" for seed in (0, 1))
    low, high = binom.interval(1 - 1e-7, n, FRACTIONS["test"] ** 2)
    assert low <= (one & two).sum() <= high


def test_parts_are_the_same_on_every_machine():
    frozen = [0, 1, 0, 1, 0, 1, 3, 1]
    assert Split(seed=7).assign(names(8), *sky(8)).tolist() == [PARTS[i] for i in frozen]


def test_json_keeps_a_split():
    split = Split(dict.fromkeys(PARTS, 0.25), by="sky", seed=3, nside=8)
    assert Split.from_json(split.to_json()) == split


def test_no_sky_cell_without_a_position():
    ra, dec = sky(3)
    dec[1] = np.nan
    with pytest.raises(ValueError, match=r"1 rows have no position.*target-1.*'random'"):
        Split(by="sky").assign(names(3), ra, dec)


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 1.0},
        dict.fromkeys(PARTS, 0.3),
        {**dict.fromkeys(PARTS, 0.5), "test": -0.5},
    ],
)
def test_refuses_fractions_that_are_none(fractions: dict):
    with pytest.raises(ValueError, match="expected"):
        Split(fractions)
