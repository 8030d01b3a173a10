import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from appulse.image import distortions
from appulse.image.distortions import NOISE, SEEING, added, blurred, cropped, worse


def test_draws_have_the_published_sizes():
    torch.manual_seed(0)
    noise, seeing = (added(kind, torch.randn(2, 20_000, 3)).numpy() for kind in (NOISE, SEEING))
    np.testing.assert_allclose(noise.mean(0), [0.00114, 0.00193, 0.00447], rtol=0.05)
    np.testing.assert_allclose(seeing.mean(0), [0.575, 0.547, 0.548], rtol=0.05)
    np.testing.assert_allclose((noise == 0).mean(0), 0.5, atol=0.02)


@pytest.mark.parametrize("shape", [(40, 40), (24, 31)])
def test_blurring_is_scipys(shape):
    torch.manual_seed(0)
    planes, sigma = torch.randn(5, *shape), torch.tensor([1e-9, 0.4, 1.0, 2.7, 5.5])
    expected = [gaussian_filter(p, s) for p, s in zip(planes.numpy(), sigma.tolist(), strict=True)]
    np.testing.assert_allclose(blurred(planes, sigma), expected, atol=2e-6)


def test_blurring_is_exact_where_networks_are_not():
    planes, sigma = 100 * torch.rand(2, 24, 24), torch.tensor([0.5, 1.0])
    exact = blurred(planes, sigma)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blurred(planes, sigma), exact)


def test_blur_widens_a_star_by_its_sigma_and_keeps_its_flux():
    star = torch.zeros(3, 41, 41)
    star[:, 20, 20] = 1
    wide = blurred(star, torch.tensor([2.0, 0.0, 1.0])).numpy()
    np.testing.assert_allclose(wide.sum((1, 2)), 1, rtol=1e-5)
    offset = np.arange(41) - 20
    variance = (wide.sum(1) * offset**2).sum(1)
    np.testing.assert_allclose(variance, [4, 0, 1], rtol=0.02)


def test_worse_images_have_the_noise_and_the_seeing_of_the_draw(monkeypatch):
    def draw(kind, normal):
        return torch.full(normal.shape[1:], 0.5 if kind is NOISE else 2.0)

    monkeypatch.setattr(distortions, "added", draw)
    assert worse(torch.zeros(8, 3, 64, 64)).std() == pytest.approx(0.5, rel=0.02)
    star = torch.zeros(400, 3, 25, 25)
    star[..., 12, 12] = 1000
    peak = worse(star)[..., 12, 12].mean() / 1000
    assert peak == pytest.approx(1 / (2 * np.pi * 2**2), rel=0.01)


def test_each_plane_gets_its_own_draw(monkeypatch):
    """Noise in two of three bands of the second image alone."""
    sigma = torch.tensor([[0.0, 0, 0], [0.1, 0, 0.3]])
    monkeypatch.setattr(distortions, "added", lambda kind, _: sigma if kind is NOISE else 0 * sigma)
    scatter = worse(torch.zeros(2, 3, 64, 64)).std((2, 3))
    torch.testing.assert_close(scatter, sigma, rtol=0.05, atol=0)


def test_a_crop_of_all_is_the_image_turned():
    image = torch.arange(2 * 3 * 9.0).view(2, 3, 3, 3)
    turned = cropped(image, 3)
    torch.testing.assert_close(turned.sum((2, 3)), image.sum((2, 3)))
    torch.testing.assert_close(turned[..., 1, 1], image[..., 1, 1])
