"""What a posterior remembers when it is loaded."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from appulse.inference.fitting import FitConfig
from appulse.inference.posterior import Posterior
from appulse.training.run import load_weights, save_tensors

from .conftest import PRIOR, QUICK, X


def test_a_saved_posterior_is_the_same(posterior, tmp_path):
    posterior.save(tmp_path / "saved")
    again = Posterior.load(tmp_path / "saved", device="cpu")
    assert again.config == posterior.config
    assert np.array_equal(again.sample(X, 50), posterior.sample(X, 50))
    assert again.prior.names == ("a", "b")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]


def test_what_is_no_posterior_is_refused(tmp_path, posterior):
    with pytest.raises(ValueError, match=r"no config.json"):
        Posterior.load(tmp_path)
    posterior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "posterior": {"a": {}}}))
    with pytest.raises(ValueError, match="a is of kind None"):
        Posterior.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no posterior"):
        Posterior.load(tmp_path)


def test_what_a_caller_wants_kept_is_kept(linear, tmp_path, monkeypatch):
    monkeypatch.setitem(linear.about, "model_hash", "abc")
    linear.save(tmp_path)
    assert Posterior.load(tmp_path, "cpu").about == {"model_hash": "abc"}


def test_weights_of_another_version_are_named(posterior, tmp_path):
    posterior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["estimator"]["width"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="weights that do not fit its settings"):
        Posterior.load(tmp_path)


@pytest.fixture(scope="module")
def apart():
    """Half of the rows have one block, half the other; 19 rows have both."""
    theta = PRIOR.sample(200, 0).numpy()
    image, spectrum = theta.copy(), theta[:, :1].copy()
    image[:90], spectrum[109:] = np.nan, np.nan
    few = replace(QUICK, fit=replace(QUICK.fit, steps=2))
    return Posterior.fit(theta, {"image": image, "spectrum": spectrum}, PRIOR, few, device="cpu")


def test_evidence_that_too_few_rows_had_together_is_refused(apart, tmp_path):
    both = {"image": np.ones((3, 2)), "spectrum": np.ones((3, 1))}
    both["spectrum"][0] = np.nan
    assert apart.answers(both).tolist() == [True, False, False]
    apart.save(tmp_path)
    for asked in (apart, Posterior.load(tmp_path, "cpu")):
        for ask in (
            asked.sample,
            asked.map,
            asked.intervals,
            partial(asked.log_prob, X[[0, 0, 0]]),
        ):
            with pytest.raises(ValueError, match="row 1 has image and spectrum, which too few"):
                ask(both)
        assert asked.sample(image=both["image"], n=5).shape == (3, 5, 2)


def test_older_posteriors_refuse_nothing(apart, tmp_path):
    apart.save(tmp_path)
    older = {n: w for n, w in load_weights(tmp_path).items() if not n.endswith("held")}
    save_tensors(tmp_path / "weights.safetensors", older)
    again = Posterior.load(tmp_path, "cpu")
    assert again.answers(image=np.ones((1, 2)), spectrum=np.ones((1, 1))).all()


def test_refitting_learns_what_came_together_since(apart):
    theta = PRIOR.sample(20, 1).numpy()
    both = {"image": theta, "spectrum": theta[:, :1]}
    assert not apart.answers(both).any()
    assert apart.refit(theta, both, FitConfig(steps=2)).answers(both).all()


def test_loading_leaves_random_numbers_alone(apart, tmp_path):
    apart.save(tmp_path)
    before = torch.get_rng_state()
    Posterior.load(tmp_path, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
