import numpy as np
import pytest

from appulse.survey.synthetic.dust import R_V, calzetti, transmission


def test_reaches_the_published_ratios():
    assert calzetti(np.array([5500.0])) == pytest.approx(R_V, abs=0.01)
    selective = calzetti(np.array([4400.0])) - calzetti(np.array([5500.0]))
    assert selective == pytest.approx(1, abs=0.06)  # E(B-V) by definition of k
    assert calzetti(np.array([1500.0])) == pytest.approx(10.3, abs=0.1)  # Calzetti 2000, figure 5


def test_falls_to_the_red_but_for_the_published_step():
    wavelength = np.linspace(1250, 21000, 4000)
    step = np.diff(calzetti(wavelength))
    joint = np.argmin(np.abs(wavelength - 6300))
    assert (np.delete(step, [joint - 1, joint]) < 0).all()
    assert np.abs(step).max() < 0.04


def test_one_magnitude_in_v_is_one_magnitude():
    through = transmission(np.array([5500.0]), np.array([1.0]))
    assert -2.5 * np.log10(through) == pytest.approx(1, 2e-3)
    assert transmission(np.array([3000.0, 9000.0]), np.zeros(1)).tolist() == [1, 1]
