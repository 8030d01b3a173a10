import numpy as np
import pytest
import torch

from appulse.spectrum.transformer import SpectrumTransformer, SpectrumTransformerConfig
from appulse.units import desi_grid

TINY = SpectrumTransformerConfig(patch=20, stride=10, width=32, depth=2, heads=4)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return SpectrumTransformer(TINY).eval()


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    flux = torch.from_numpy(2 + rng.normal(size=(3, 500)).astype(np.float32))
    wavelength = torch.from_numpy(desi_grid()[:500].astype(np.float32))[None]
    return flux, torch.full((3, 500), 4.0), wavelength


def test_one_token_for_brightness_and_one_per_patch(trunk, batch):
    assert trunk(*batch).shape == (3, 1 + 49, 32)


def test_the_papers_patches_on_the_desi_grid(trunk):
    flux = torch.ones(1, 7781) + 0.1 * torch.randn(1, 7781)
    patches = trunk.patches(
        flux, torch.ones_like(flux), torch.from_numpy(desi_grid())[None].float()
    )
    assert patches.flux.shape == (1, 777, 20)
    np.testing.assert_allclose(patches.position[0, 3].exp(), 3600 + 0.8 * 39.5, rtol=1e-6)


def test_patches_hold_flux_over_median_minus_one(trunk, batch):
    flux, ivar, wavelength = batch
    patches = trunk.patches(flux, ivar, wavelength)
    median = flux.median(1, keepdim=True).values
    torch.testing.assert_close(patches.flux[:, 4], (flux / median - 1)[:, 40:60])
    torch.testing.assert_close(patches.weight[:, 4], (ivar * median**2)[:, 40:60])


def test_only_the_brightness_token_input_knows_the_flux_scale(trunk, batch):
    flux, ivar, wavelength = batch
    faint, bright = (trunk.patches(s * flux, ivar / s**2, wavelength) for s in (1, 100))
    torch.testing.assert_close(faint.flux, bright.flux)
    torch.testing.assert_close(faint.weight, bright.weight)
    torch.testing.assert_close(
        bright.scale[:, 0] - faint.scale[:, 0], torch.full((3,), np.log(100)).float()
    )
    torch.testing.assert_close(bright.scale[:, 1], faint.scale[:, 1])


def test_masked_pixels_are_not_seen(trunk, batch):
    flux, ivar, wavelength = batch
    ivar = ivar.clone()
    ivar[:, 100:130] = 0
    other = flux.clone()
    other[:, 100:130] = 3.0
    torch.testing.assert_close(trunk(flux, ivar, wavelength), trunk(other, ivar, wavelength))


def test_absolute_wavelength_matters(trunk, batch):
    flux, ivar, wavelength = batch
    assert not torch.allclose(trunk(flux, ivar, wavelength), trunk(flux, ivar, wavelength + 300))


def test_a_batch_of_one_equals_its_row(trunk, batch):
    flux, ivar, wavelength = batch
    torch.testing.assert_close(
        trunk(flux[1:2], ivar[1:2], wavelength), trunk(*batch)[1:2], atol=1e-5, rtol=1e-4
    )


def test_an_empty_spectrum_stays_finite(trunk, batch):
    flux, ivar, wavelength = batch
    assert torch.isfinite(trunk(torch.zeros_like(flux), ivar, wavelength)).all()


def test_too_short_a_spectrum_is_refused(trunk, batch):
    with pytest.raises(ValueError, match="10 pixels are shorter than one patch of 20"):
        trunk(*(x[:, :10] for x in batch))


@pytest.mark.parametrize("name", ["patch", "stride", "width", "depth", "heads"])
def test_sizes_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1; expected 1 or more"):
        SpectrumTransformerConfig(**{name: -1})
