import numpy as np
import pytest
import torch
from scipy.integrate import quad

from appulse.survey.synthetic import profiles


def scalar(value):
    return torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1)


@pytest.mark.parametrize("index", [1.0, 2.0, 4.0, 6.0])
def test_sersic_holds_half_its_light_in_the_effective_radius(index):
    def light(radius):
        flux = profiles.sersic(scalar(radius), scalar(2.0), scalar(index))
        return float(flux) * radius

    inside, outside = quad(light, 0, 2)[0], quad(light, 2, np.inf, limit=200)[0]
    assert inside / (inside + outside) == pytest.approx(0.5, abs=1e-3)
    enclosed = profiles.sersic_enclosed(np.array([5.0]), np.array([2.0]), np.array([index]))
    assert enclosed[0] == pytest.approx(quad(light, 0, 5)[0] / (inside + outside), abs=1e-3)


def test_gaussians_hold_their_flux_and_place():
    axis = torch.arange(-40, 41, dtype=torch.float64) * 0.25
    x, y, sigma, flux = (
        torch.tensor([[a, b]]).double()
        for a, b in ((1.0, -3.0), (2.0, 0.5), (0.5, 1.0), (3.0, 5.0))
    )
    plane = profiles.gaussians(axis, x, y, sigma, flux)[0] * 0.25**2
    assert float(plane.sum()) == pytest.approx(8, rel=1e-6)
    assert float((plane * axis).sum()) == pytest.approx(3 * 1 - 5 * 3, rel=1e-6)
    assert float((plane * axis[:, None]).sum()) == pytest.approx(3 * 2 + 5 * 0.5, rel=1e-6)


def test_arms_wind_with_their_pitch():
    """Along a logarithmic spiral, azimuth = ln(radius) / tan(pitch), the crest stays a crest."""
    pitch, radius = 0.35, torch.linspace(1.5, 6, 50, dtype=torch.float64).reshape(1, 1, -1)
    azimuth = torch.log(radius + 0.05) / np.tan(pitch)
    on = profiles.spiral_arms(radius, azimuth, scalar(2), scalar(pitch), scalar(0), scalar(0.35))
    between = profiles.spiral_arms(
        radius, azimuth + np.pi / 2, scalar(2), scalar(pitch), scalar(0), scalar(0.35)
    )
    assert (on > 2.19 * torch.sigmoid(6 * (radius - 0.35))).all()
    assert (between < 0.03).all()
