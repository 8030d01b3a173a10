import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, angular_separation
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.survey.duplicates import Sightings


def crowd(rng: np.random.Generator, n: int, dec: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions a few arcsec apart, where HEALPix base cells meet or right ascension wraps."""
    centre = SkyCoord(rng.choice([0, 45, 359.9999], n), dec, unit="deg")
    angle, length = rng.uniform(0, 360, n) * units.deg, rng.uniform(0, 4, n) * units.arcsec
    around = centre.directional_offset_by(angle, length)
    return around.ra.deg, around.dec.deg


def slow_repeats(ids: set, kept: list, targetid, ra, dec, survey) -> np.ndarray:
    """Row by row against all rows kept so far, with astropy's separations."""
    by_id, by_position = np.zeros((2, len(targetid)), dtype=bool)
    for i, (name, *place, where) in enumerate(
        zip(targetid, *np.radians([ra, dec]), survey, strict=True)
    ):
        by_id[i] = name in ids
        ids.add(name)
        by_position[i] = not by_id[i] and any(
            where == there and np.degrees(angular_separation(*place, *other)) * 3600 <= 1
            for other, there in kept
        )
        if not (by_id[i] or by_position[i]):
            kept.append((place, where))
    return np.stack([by_id, by_position])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    dec=st.sampled_from([-90.0, -89.9995, -41.8103, 0.0, 41.8103, 89.9995]),
    pieces=st.sampled_from([[12], [1, 1, 1, 9], [5, 4, 3]]),
)
def test_agrees_with_a_search_row_by_row(seed: int, dec: float, pieces: list[int]):
    rng, seen = np.random.default_rng(seed), Sightings()
    ids, kept = set(), []
    for n in pieces:
        rows = {
            "targetid": rng.integers(0, 40, n).astype(str),
            **dict(zip(("ra", "dec"), crowd(rng, n, dec), strict=True)),
            "survey": rng.choice(["desi", "sdss"], n),
        }
        np.testing.assert_array_equal(seen.repeats(**rows), slow_repeats(ids, kept, **rows))


def test_finds_all_of_a_large_sky_again_and_nothing_else():
    rng, n, seen = np.random.default_rng(0), 20_000, Sightings()
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    for rows in np.array_split(np.arange(n), 37):
        assert not np.any(seen.repeats(rows.astype(str), ra[rows], dec[rows]))
    again = np.arange(n, 2 * n).astype(str)
    near = SkyCoord(ra, dec, unit="deg").directional_offset_by(0 * units.deg, 0.99 * units.arcsec)
    by_id, by_position = seen.repeats(again, near.ra.deg, near.dec.deg)
    assert not by_id.any()
    assert by_position.all()


@pytest.mark.parametrize("arcsec", [0.999, 1.001])
def test_the_radius_is_one_arcsec(arcsec: float):
    dec = np.array([30.0, 30.0 + arcsec / 3600])
    _, by_position = Sightings().repeats(np.array(["a", "b"]), np.zeros(2), dec)
    assert by_position.tolist() == [False, arcsec < 1]


def test_without_positions_only_ids_count():
    nowhere = np.full(3, np.nan)
    by_id, by_position = Sightings().repeats(np.array(["a", "b", "a"]), nowhere, nowhere)
    assert by_id.tolist() == [False, False, True]
    assert not by_position.any()
