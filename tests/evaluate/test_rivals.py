"""Rivals as they are, but small and short; their parts have tests of their own."""

from dataclasses import replace

import numpy as np
import pytest

from appulse.align.load import load
from appulse.evaluate import rivals
from appulse.evaluate.conv_att import ConvAttConfig
from appulse.evaluate.feature_towers import FeatureTowersConfig
from appulse.evaluate.resnet import ResNetConfig
from appulse.evaluate.rivals import pretrained_tower
from appulse.evaluate.scores import grouped, score_all
from appulse.evaluate.supervised import SupervisedConfig
from appulse.survey.survey import PROPERTIES
from appulse.training.loop import TrainingConfig

SHORT = TrainingConfig(steps=6, batch_size=16, warmup=2, validate_every=3)


@pytest.fixture(scope="module")
def said(study, run):
    """What rivals say, with one seed, from all labels and from forty."""
    networks = {
        "resnet": lambda labels, seed: SupervisedConfig(
            ResNetConfig(8, (1, 1)), replace(SHORT, seed=seed), size=24
        ),
        "conv_att": lambda labels, seed: SupervisedConfig(
            ConvAttConfig((4, 4), (5, 5), (8,)), replace(SHORT, seed=seed)
        ),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, network in networks.items():
            patched.setattr(rivals, name, network)
        patched.setattr(rivals, "MOCO", SHORT)
        patched.setattr(rivals, "MOCO_SIZE", 64)
        patched.setattr(rivals, "MOCO_WIDTH", 8)
        towers = FeatureTowersConfig(replace(SHORT, batch_size=64), width=16)
        patched.setattr(rivals, "FeatureTowersConfig", lambda: towers)
        few = replace(study, seeds=(1,), counts=(40,))
        runs = {"alignment": run.align, "first": run.spectrum, "second": run.spectrum}
        methods = rivals.rivals(few, load(run.align), runs)
        rows = [p for method in methods for seed in method.seeds for p in method.run(seed)]
    return methods, rows


def test_every_rival_predicts(said, study):
    methods, rows = said
    n = len(study.sample.rows("head-train"))
    sizes = {(p.method, p.modality, p.n_train): set(p.values) for p in rows}
    everything = {*PROPERTIES, "morphology"}
    probes = {"k-NN", "ridge", "MLP probe"}
    expected = {
        ("ResNet", "image", n): everything,
        ("ResNet", "image", 40): set(PROPERTIES),
        ("Conv+Att", "spectrum", n): set(PROPERTIES),
        ("Conv+Att", "spectrum", 40): set(PROPERTIES),
        **{(f"MoCo v2, {p}", "image", n): everything for p in probes},
        **{
            (f"{title} encoder, unaligned, {p}", "spectrum", n): everything
            for title in ("first", "second")
            for p in probes
        },
    }
    encoder = len(study.sample.rows("encoder-train"))
    for direction in ("image → spectrum", "spectrum → image"):
        expected["feature towers", direction, encoder] = {"partner", *PROPERTIES}
    assert sizes == expected
    assert all(p.baseline and p.seed == 1 for p in rows)
    assert len({(m.name, str(m.config)) for m in methods}) == len(methods)
    assert score_all(grouped(rows), study.sample)


def test_nothing_of_a_training_is_left(said, study):
    assert not list(study.work.glob("*"))


def test_a_pretrained_tower_is_the_runs(run, galaxies):
    """The mean over the tokens of the trunk, before any alignment."""
    model = pretrained_tower(run.spectrum)
    made = model.embed_spectra(galaxies.spectra, device="cpu")
    aligned = load(run.align).spectrum  # tiny's alignment leaves the spectrum's trunk as it was
    tokens = aligned.tokens(aligned.prepare(galaxies.spectra)).mean(1).detach().numpy()
    cosine = (made * tokens).sum(1) / np.linalg.norm(tokens, axis=1)
    assert cosine.min() > 0.9999
    assert set(model.towers) == {"spectrum"}
