import numpy as np
import pytest
import torch

from appulse.image.augment import CropConfig, multi_crop


@pytest.fixture
def flux():
    torch.manual_seed(0)
    return torch.randn(4, 3, 64, 70)


def test_views_of_one_kind_stand_together(flux):
    config = CropConfig(whole=48, part=20, parts=3, degrade=(0.0, 0.0, 0.0))
    whole, parts = multi_crop(flux, config)
    assert whole.shape == (8, 3, 48, 48)
    assert parts.shape == (12, 3, 20, 20)
    seen = [_place(crop.numpy(), flux[i % 4].numpy()) for i, crop in enumerate([*whole, *parts])]
    assert None not in seen
    assert len({turn for turn, _, _ in seen}) > 4


def _place(crop, image):
    """In which of eight ways the crop is turned, and where it then stands in the image."""
    for turn in range(8):
        turned = np.rot90(crop[:, :, :: 1 - 2 * (turn // 4)], turn % 4, (1, 2))
        for top, left in np.argwhere(image[0] == turned[0, 0, 0]):
            n = turned.shape[1]
            if np.array_equal(image[:, top : top + n, left : left + n], turned):
                return turn, top, left
    return None


def test_all_turns_and_places_are_as_likely():
    image = torch.arange(3 * 12 * 12.0).view(1, 3, 12, 12).expand(4000, -1, -1, -1)
    config = CropConfig(whole=10, part=4, parts=0, degrade=(0.0, 0.0, 0.0))
    crops = multi_crop(image, config).whole.numpy()
    turns, tops, lefts = np.transpose([_place(crop, image[0].numpy()) for crop in crops])
    for values, kinds in ((turns, 8), (tops, 3), (lefts, 3), (3 * tops + lefts, 9)):
        share = np.bincount(values, minlength=kinds) / len(crops)
        np.testing.assert_allclose(share, 1 / kinds, atol=4.5 * (1 / kinds / len(crops)) ** 0.5)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_views_are_degraded_as_often_as_asked(flux, chance):
    """A draw adds nothing in half of the bands, so the chance of some change is 1 − 1/8 at most."""
    flux = flux[..., :64]
    config = CropConfig(whole=64, part=20, parts=0, degrade=(chance, 0.0, 0.0))
    changed = []
    for _ in range(100):
        first, second = multi_crop(flux, config).whole.chunk(2)
        changed += ((first.std((1, 2, 3)) - flux.std((1, 2, 3))).abs() > 1e-6).tolist()
        torch.testing.assert_close(second.std((1, 2, 3)), flux.std((1, 2, 3)))
    some = 1 - 0.5**3  # of three bands
    expected = 1 - (1 - chance * some) ** 2  # by seeing or by noise
    assert np.mean(changed) == pytest.approx(expected, abs=0.06)


def test_a_batch_is_left_as_it_was(flux):
    before = flux.clone()
    multi_crop(flux, CropConfig(whole=64, part=20, parts=2, degrade=(1.0, 1.0, 1.0)))
    assert torch.equal(flux, before)
