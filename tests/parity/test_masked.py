"""The paper's masked modelling against upstream's numbers."""

import pytest
import torch

from appulse.align.published import Heads, _renamed, specformer
from appulse.spectrum.masked import MaskedModel, MaskingConfig, masked_loss

from .conftest import assert_parity


@pytest.mark.parametrize("name", ["specformer_masked_loss", "specformer_masked_loss_small"])
def test_loss_and_gradients(golden, name):
    made = golden(name)
    published = specformer(made.state, Heads(0, made.config["num_heads"], 0))
    model = MaskedModel(published.config.spectrum.trunk, MaskingConfig())
    prefix = [(r"^(?!head\.)", "trunk.")]

    def ours(state):
        return {n.replace("trunk.trunk.", "trunk."): t for n, t in _renamed(state, prefix).items()}

    model.load_state_dict(ours(made.state))
    flux = made.tensors["spectrum"][..., 0]
    wavelength = 3600 + 0.8 * torch.arange(flux.shape[1])[None]
    patches = model.trunk.patches(flux, torch.ones_like(flux), wavelength)
    hidden = made.tensors["token_mask"].bool()
    predicted = model(patches, hidden)
    assert_parity(predicted, made.tensors["reconstructions"])
    loss = masked_loss(predicted, patches, hidden)
    torch.testing.assert_close(loss[None], made.tensors["loss"], rtol=1e-5, atol=0)
    loss.backward()
    gradients = {n.removeprefix("grad."): t for n, t in made.tensors.items() if n[:5] == "grad."}
    found = dict(model.named_parameters())
    for key, expected in ours(gradients).items():
        assert_parity(found[key].grad, expected, 1e-4)
