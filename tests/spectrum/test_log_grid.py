import numpy as np
import pytest
import torch

from appulse.spectrum.log_grid import highest_peaks

BIN = 6e-4  # peaks within 6 bins of a higher one do not count


def slow_peaks(curve, k):
    """Places of the k highest values that no value within 6 places exceeds."""
    peaks = [i for i in range(len(curve)) if curve[i] == curve[max(i - 6, 0) : i + 7].max()]
    return sorted(peaks, key=lambda i: -curve[i])[:k]


def test_peaks_are_those_of_a_slow_search():
    curve = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    place, height = highest_peaks(curve, 4, BIN)
    for row in range(5):
        slow = slow_peaks(curve[row].numpy(), 4)
        np.testing.assert_array_equal(height[row], curve[row, slow])
        assert np.abs(place[row].numpy() - slow).max() <= 0.5


@pytest.mark.parametrize("top", [30.0, 30.3, 29.6])
def test_the_top_of_a_parabola_is_found_between_bins(top):
    curve = 5 - (torch.arange(60.0)[None] - top) ** 2
    place, height = highest_peaks(curve, 2, BIN)
    assert place[0, 0].item() == pytest.approx(top, abs=1e-3)
    assert height[0, 0].item() == pytest.approx(5, abs=0.2)
    assert place[0, 1].isnan()  # there is only one
    assert height[0, 1].isnan()
