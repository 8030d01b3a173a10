import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appulse.spectrum.masked import MaskedModel, MaskingConfig, hide_chunks, masked_loss
from appulse.spectrum.transformer import SpectrumTransformerConfig
from appulse.survey.spectra import Spectra

MASKING = MaskingConfig(chunks=3, width=2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = SpectrumTransformerConfig(patch=200, stride=200, width=32, depth=2, heads=4)
    return MaskedModel(config, MASKING)


@pytest.fixture(scope="module")
def spectra():
    rng = np.random.default_rng(0)
    return Spectra.from_arrays(2 + rng.normal(size=(4, 7781)), ivar=np.ones(7781))


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 20))
def test_chunks_are_whole_and_never_overlap(chunks, width, room):
    tokens = chunks * (width + room) + chunks // 2
    hidden = hide_chunks(5, tokens, MaskingConfig(chunks, width))
    assert hidden.shape == (5, tokens)
    assert (hidden.sum(1) == chunks * width).all()
    for row in hidden.int():
        begins = (torch.diff(row, prepend=torch.zeros(1, dtype=torch.int)) == 1).sum()
        assert begins <= chunks


def test_every_place_but_the_stretches_ends_can_be_hidden():
    hidden = hide_chunks(4000, 778, MaskingConfig())
    assert hidden.float().mean().item() == pytest.approx(300 / 778)
    assert (hidden.any(0)).sum() >= 760


def test_chunks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="6 chunks of 50 tokens do not fit 100 tokens"):
        hide_chunks(1, 100, MaskingConfig())


def test_hidden_patches_do_not_reach_the_prediction(model, spectra):
    patches = model.trunk.patches(
        *(torch.from_numpy(a) for a in (spectra.flux, spectra.ivar)),
        torch.linspace(3600, 9824, 7781)[None],
    )
    hidden = hide_chunks(*patches.flux.shape[:2], MASKING)
    spoiled = patches._replace(flux=torch.where(hidden[..., None], 99.0, patches.flux))
    torch.testing.assert_close(model(patches, hidden), model(spoiled, hidden))
    assert not torch.allclose(model(patches, ~hidden), model(spoiled, ~hidden))


def test_the_loss_is_the_weighted_error_of_hidden_pixels_written_out(model, spectra):
    patches = model.trunk.patches(
        *(torch.from_numpy(a) for a in (spectra.flux, spectra.ivar)),
        torch.linspace(3600, 9824, 7781)[None],
    )
    weight = torch.rand_like(patches.weight) * 50  # some beyond the limit of 25
    weight[0, 3, 7] = 0
    patches = patches._replace(weight=weight)
    hidden = hide_chunks(*patches.flux.shape[:2], MASKING)
    predicted = torch.randn_like(patches.flux)
    top = bottom = 0.0
    for b, t in hidden.nonzero().tolist():
        for p in range(patches.flux.shape[2]):
            w = min(weight[b, t, p].item(), 25)
            top += w * (predicted[b, t, p] - patches.flux[b, t, p]).item() ** 2
            bottom += w
    assert masked_loss(predicted, patches, hidden).item() == pytest.approx(top / bottom, rel=1e-4)


def test_training_learns_what_the_neighbours_tell(model):
    """Slopes differ from row to row, so only the visible patches can tell the hidden ones."""
    rng = np.random.default_rng(1)
    slope = rng.uniform(-1, 1, (64, 1)) * np.linspace(-1, 1, 7781)
    spectra = Spectra.from_arrays(
        5 + 3 * slope + rng.normal(0, 0.1, (64, 7781)), ivar=np.full(7781, 100.0)
    )
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model.loss(spectra)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
