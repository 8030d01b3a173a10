import torch

from appulse.inference.peak import find_peak

ROOT = torch.tensor([[1.0, 0.0], [0.95, 0.1]], dtype=torch.float64)  # correlation .995
CENTRES = torch.tensor([[0.5, -2.0], [10.0, 3.0]], dtype=torch.float64)


def draws(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(len(CENTRES), n, 2, generator=rng, dtype=torch.float64)


def gaussian(theta):
    """Of two observations, each around its centre."""
    away = torch.linalg.solve_triangular(ROOT, (theta - CENTRES[:, None]).mT, upper=False)
    return -0.5 * away.square().sum(1)


def test_the_peak_of_a_gaussian_is_its_mean():
    found = find_peak(gaussian, CENTRES[:, None] + draws(64) @ ROOT.T)
    torch.testing.assert_close(found, CENTRES, atol=1e-3, rtol=0)


def test_the_higher_of_two_peaks_is_found():
    """exp(-|x - c|² / 2 s²) at c = ± 3, the one at -3 twice as high and narrower."""

    def density(theta):
        away = [(theta - c).square().sum(-1) / (2 * s**2) for c, s in ((3.0, 1.0), (-3.0, 0.5))]
        return torch.logaddexp(-away[0], 0.7 - away[1])

    samples = torch.cat([3 + draws(50), -3 + 0.5 * draws(14, seed=1)], 1)
    found = find_peak(density, samples)
    torch.testing.assert_close(found, torch.full_like(CENTRES, -3.0), atol=1e-3, rtol=0)


def test_a_density_that_rises_without_end_is_left_near_the_samples():
    samples = draws(64)
    found = find_peak(lambda theta: theta.sum(-1), samples)
    assert (found <= samples.amax(1) + samples.std(1)).all()
    assert (found >= samples.amax(1)).all()


def test_few_densities_are_asked_for():
    asked = []

    def counting(theta):
        asked.append(theta.shape[0] * theta.shape[1])
        return gaussian(theta)

    find_peak(counting, CENTRES[:, None] + draws(64) @ ROOT.T)
    assert sum(asked) <= 2 * (64 + 16)
