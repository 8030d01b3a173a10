import numpy as np
import pytest

from appulse.image.augment import NOISE, SEEING, CropConfig, added, blur, multi_crop


@pytest.fixture
def flux():
    return np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)


def test_views_of_one_kind_stand_together(flux):
    config = CropConfig(whole=48, part=20, parts=3, degrade=(0.0, 0.0, 0.0))
    whole, parts = multi_crop(flux, config, np.random.default_rng(1))
    assert whole.shape == (8, 3, 48, 48)
    assert parts.shape == (12, 3, 20, 20)
    for i, crop in enumerate([*whole, *parts]):
        assert _is_part_of(crop, flux[i % 4])


def _is_part_of(crop, image):
    """Whether the crop, turned back in one of eight ways, stands somewhere in the image."""
    for flipped in (crop, crop[:, :, ::-1]):
        for turns in range(4):
            turned = np.rot90(flipped, turns, (1, 2))
            corner = np.argwhere(image[0] == turned[0, 0, 0])
            for top, left in corner:
                n = turned.shape[1]
                if np.array_equal(image[:, top : top + n, left : left + n], turned):
                    return True
    return False


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_views_are_degraded_as_often_as_asked(flux, chance):
    """A draw adds nothing in half of the bands, so the chance of some change is 1 − 1/8 at most."""
    config = CropConfig(whole=64, part=20, parts=0, degrade=(chance, 0.0, 0.0))
    rng, changed = np.random.default_rng(2), []
    for _ in range(100):
        first, second = np.split(multi_crop(flux, config, rng).whole, 2)
        changed += [abs(a.std() - f.std()) > 1e-6 for a, f in zip(first, flux, strict=True)]
        assert all(abs(b.std() - f.std()) < 1e-6 for b, f in zip(second, flux, strict=True))
    some = 1 - 0.5**3  # of three bands
    expected = 1 - (1 - chance * some) ** 2  # by seeing or by noise
    assert np.mean(changed) == pytest.approx(expected, abs=0.06)


def test_draws_have_the_published_sizes():
    rng = np.random.default_rng(0)
    noise = np.array([added(NOISE, rng) for _ in range(20_000)])
    seeing = np.array([added(SEEING, rng) for _ in range(20_000)])
    np.testing.assert_allclose(noise.mean(0), [0.00114, 0.00193, 0.00447], rtol=0.05)
    np.testing.assert_allclose(seeing.mean(0), [0.575, 0.547, 0.548], rtol=0.05)
    np.testing.assert_allclose((noise == 0).mean(0), 0.5, atol=0.02)


def test_blur_widens_a_star_by_its_sigma_and_keeps_its_flux():
    star = np.zeros((3, 41, 41))
    star[:, 20, 20] = 1
    wide = blur(star, np.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(wide.sum((1, 2)), 1, rtol=1e-5)
    offset = np.arange(41) - 20
    variance = (wide.sum(1) * offset**2).sum(1)
    np.testing.assert_allclose(variance, [4, 0, 1], rtol=0.02)
