from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appulse.image.masking import BlockMaskConfig, block_mask, block_masks


@given(st.integers(4, 14), st.integers(0, 80), st.integers(0, 2**31))
def test_never_more_than_asked_for(side, patches, seed):
    assert block_mask(side, patches, Random(seed)).sum() <= patches


def test_nearly_as_many_as_asked_for():
    masks = [block_mask(12, 36, Random(seed)) for seed in range(200)]
    assert np.mean([mask.sum() for mask in masks]) > 35


def test_hidden_patches_stand_together():
    """Neighbours of a hidden patch are hidden far more often than by chance."""
    pairs = [
        (mask[1:] & mask[:-1]).sum() / max(mask[1:].sum(), 1)
        for mask in (block_mask(12, 30, Random(seed)) for seed in range(100))
    ]
    assert np.mean(pairs) > 2 * 30 / 144


def test_shares_are_spread_over_the_range_in_half_of_the_images():
    masks = block_masks(40, 12, BlockMaskConfig(), Random(0))
    shares = masks.float().mean(1).numpy()
    assert (shares > 0).sum() == 20
    masked = np.sort(shares[shares > 0])
    np.testing.assert_allclose(masked, np.linspace(0.11, 0.49, 20), atol=0.03)
