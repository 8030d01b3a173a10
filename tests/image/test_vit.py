import numpy as np
import pytest
import torch

from appulse.image.vit import VisionTransformer, VisionTransformerConfig, arcsinh

TINY = VisionTransformerConfig(size=24, patch=6, width=32, depth=2, heads=4)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return VisionTransformer(TINY).eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    flux = 0.1 * torch.randn(3, 3, 24, 24)
    return flux, torch.zeros(flux.shape, dtype=torch.bool), torch.full((3,), 0.262)


def test_one_token_per_patch(trunk, batch):
    assert trunk(*batch).shape == (3, 16, 32)


def test_patches_are_read_row_by_row(trunk, batch):
    """A change in the third patch of the second row moves that token most."""
    flux, mask, scale = batch
    changed = flux.clone()
    changed[:, :, 6:12, 12:18] += 1
    difference = (trunk(changed, mask, scale) - trunk(*batch)).norm(dim=2)
    assert (difference.argmax(1) == 1 * 4 + 2).all()


@pytest.mark.parametrize("masked", [False, True])
def test_the_patch_embedding_is_a_convolution(trunk, batch, masked):
    flux, mask, _ = batch
    mask = torch.zeros_like(mask)
    mask[0, 1, 3:9, 5] = masked
    x = torch.cat([torch.asinh(flux / 0.01), mask.any(1, keepdim=True).float()], 1)
    kernel = trunk.embed_patch.weight.view(32, 4, 6, 6)
    expected = torch.nn.functional.conv2d(x, kernel, trunk.embed_patch.bias, stride=6)
    expected = expected.flatten(2).transpose(1, 2)
    torch.testing.assert_close(trunk._patches(flux, mask), expected, atol=1e-4, rtol=1e-4)


def test_position_and_pixel_scale_matter(trunk, batch):
    flux, mask, scale = batch
    assert not torch.allclose(trunk(flux.flip(3), mask, scale).mean(1), trunk(*batch).mean(1))
    assert not torch.allclose(trunk(flux, mask, 2 * scale), trunk(*batch))


def test_the_mask_is_seen(trunk, batch):
    flux, mask, scale = batch
    assert not torch.allclose(trunk(flux, ~mask, scale), trunk(*batch))


def test_a_batch_of_one_equals_its_row(trunk, batch):
    one = trunk(*(x[1:2] for x in batch))
    torch.testing.assert_close(one, trunk(*batch)[1:2], atol=1e-5, rtol=1e-4)


def test_arcsinh_equals_torchs_and_has_a_gradient():
    x = torch.tensor([-3e3, -1.0, 0.0, 1e-6, 40.0], requires_grad=True)
    torch.testing.assert_close(arcsinh(x.detach()), torch.asinh(x.detach()))
    arcsinh(x).sum().backward()
    np.testing.assert_allclose(x.grad, 1 / np.sqrt(1 + x.detach().numpy() ** 2), rtol=1e-5)


def test_wrong_sizes_are_refused(trunk, batch):
    with pytest.raises(ValueError, match=r"multiples of the patch, 6 pixels, got \(20, 24\)"):
        trunk(batch[0][:, :, :20], batch[1][:, :, :20], batch[2])
    with pytest.raises(ValueError, match="size 20 is not a multiple of patch 6"):
        VisionTransformer(VisionTransformerConfig(size=20, patch=6))


def test_positions_on_the_sky_belong_to_places_not_to_sizes(trunk, batch):
    """The central patches of a larger image get the positions of a smaller one's."""
    scale, whole, part = batch[2], torch.Size([24, 24]), torch.Size([12, 24])
    middle = trunk._sky(scale, whole).view(3, 4, 4, 32)[:, 1:3]
    torch.testing.assert_close(trunk._sky(scale, part).view(3, 2, 4, 32), middle)


def test_hidden_patches_are_not_seen(trunk, batch):
    flux, mask, scale = batch
    hidden = torch.zeros(3, 16, dtype=torch.bool)
    hidden[:, 6] = True  # rows 6 to 12, columns 12 to 18
    changed = flux.clone()
    changed[:, :, 6:12, 12:18] += 1
    torch.testing.assert_close(
        trunk(changed, mask, scale, hidden), trunk(flux, mask, scale, hidden)
    )
    assert not torch.allclose(trunk(flux, mask, scale, hidden), trunk(*batch))


def test_layer_scale_of_nothing_passes_tokens_unchanged(batch):
    config = VisionTransformerConfig(
        size=24, patch=6, width=32, depth=2, heads=4, layer_scale=0.0, positions="none"
    )
    trunk = VisionTransformer(config)
    patches = trunk._patches(*batch[:2])
    torch.testing.assert_close(trunk(*batch), trunk.norm(patches))


@pytest.mark.parametrize("name", ["size", "patch", "width", "depth", "heads"])
def test_sizes_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; expected 1 or more"):
        VisionTransformerConfig(**{name: 0})
