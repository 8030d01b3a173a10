"""A stand-in for the published file at its full size, weights made from their names."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import appulse
from appulse.cli import main
from appulse.search.embeddings import Embeddings

from .conftest import assert_parity, made_from_its_key, write_astroclip

SPECFORMER = "spectrum_encoder.backbone."


@pytest.fixture(scope="module")
def full_size(layout, tmp_path_factory):
    """As on the hub, but that SpecFormer's tensors are made from its own names."""
    state = {
        name: made_from_its_key(name.removeprefix(SPECFORMER), shape)
        for name, shape in layout["AstroClipModel.state_dict"].items()
    }
    assert sum(tensor.numel() for tensor in state.values()) == 370_798_358
    folder = tmp_path_factory.mktemp("full")
    yield write_astroclip(folder / "astroclip.ckpt", state, None)
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()  # gigabytes


def command(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code, ended.value.code


def test_files_in_embeddings_out(full_size, golden, files, tmp_path):
    """convert, embed: the numbers are SpecFormer's, and the same from either form of the model."""
    run = full_size.parent / "run"
    command("convert", full_size, run)
    card = (run / "README.md").read_text()
    assert "license: mit" in card
    assert "Parker et al. 2024" in card
    assert "24 blocks of width 1024, 16 heads" in card
    config = json.loads((run / "config.json").read_text())
    assert len(config["source"]["sha256"]) == 64

    command("embed", *files.cutouts[:2], "--model", full_size, "--out", tmp_path / "i.fits")
    command("embed", files.cutouts[1], "--model", run, "--out", tmp_path / "one.parquet")
    image, one = Embeddings.read(tmp_path / "i.fits"), Embeddings.read(tmp_path / "one.parquet")
    assert image.vectors.shape == (2, 1024)
    assert image.model_hash == one.model_hash
    np.testing.assert_allclose(one.vectors[0], image.vectors[1], atol=1e-5)

    theirs = golden("specformer_published_det").tensors
    model = appulse.load(run)
    inputs = model.spectrum.prepare(appulse.Spectra.from_arrays(theirs["spectrum"][..., 0].numpy()))
    with torch.inference_mode():
        tokens = model.spectrum.tokens(inputs)
        pooled = model.spectrum.head(inputs.features, tokens)
    assert_parity(tokens[:, [0, 1, 2, 100, 400, 777]], theirs["embedding_tok"])
    assert_parity(tokens.mean(1), theirs["embedding_mean"])
    vector = model.embed_spectra(theirs["spectrum"][..., 0].numpy(), device="cpu")
    assert_parity(torch.from_numpy(vector), F.normalize(pooled))
    assert model.hash() == image.model_hash
