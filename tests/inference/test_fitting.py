"""How a posterior is fitted, and what is refused."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse.inference.calibration import coverage
from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import (
    ALONE,
    WHOLE,
    BestWeights,
    FitConfig,
    _subset,
    dropout_for,
    steps_for,
)
from appulse.inference.posterior import Posterior, PosteriorConfig
from appulse.inference.prior import IndependentPrior, Normal

from .conftest import PRIOR, QUICK, SHORT, X, fold


def test_a_fit_drops_what_its_rows_ask_for():
    few = replace(QUICK, fit=replace(QUICK.fit, steps=2))
    fitted = Posterior.fit(*fold(1000, 0), PRIOR, few, device="cpu")
    layers = [m for m in fitted.members[0].network.modules() if isinstance(m, torch.nn.Dropout)]
    assert [layer.p for layer in layers] == [0.1, 0.1]


def test_an_equal_seed_gives_an_equal_posterior_and_a_run_goes_on(tmp_path):
    theta, x = fold(300, 3)
    first = Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path / "run", device="cpu")
    other = Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")
    assert np.array_equal(first.sample(X, 5), other.sample(X, 5))
    assert first.losses == Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path / "run").losses
    with pytest.raises(ValueError, match="holds a run with another configuration"):
        Posterior.fit(theta[1:], x[1:], PRIOR, SHORT, run=tmp_path / "run", device="cpu")


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    theta, x = fold(300, 3)
    whole = Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")
    look = BestWeights.look

    def interrupted(self, estimator):
        signal.raise_signal(signal.SIGINT)  # Ctrl-C, once the first check has found weights
        return look(self, estimator)

    monkeypatch.setattr(BestWeights, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path, device="cpu")
    monkeypatch.undo()
    assert (tmp_path / "member-0" / "resume.safetensors").exists()
    again = Posterior.fit(theta, x, PRIOR, SHORT, run=tmp_path, device="cpu")
    assert again.losses == whole.losses
    assert np.array_equal(again.sample(X, 5), whole.sample(X, 5))


def test_the_weights_of_the_best_validation_loss_are_kept(tmp_path):
    theta, x = fold(60, 3)
    long = FitConfig(steps=300, batch_size=32, checks=30, learning_rate=1e-2)
    posterior = Posterior.fit(theta, x, PRIOR, replace(QUICK, fit=long), run=tmp_path, device="cpu")
    lines = (tmp_path / "member-0" / "metrics.jsonl").read_text().splitlines()
    losses = [m["validation"] for m in map(json.loads, lines) if "validation" in m]
    assert losses[-1] > min(losses)  # 54 rows are soon learnt by heart
    assert posterior.losses == [min(losses)]


def test_refitting_goes_on_from_the_weights(posterior):
    theta, x = fold(1000, 7)
    more = FitConfig(steps=20, batch_size=128, learning_rate=1e-5)
    again = posterior.refit(theta, x, more)
    change = np.abs(again.sample(X, 200) - posterior.sample(X, 200))
    assert 0 < change.mean() < 0.05  # by what the new rows say of the noise
    with pytest.raises(ValueError, match="3 features; in training it held vectors of 2"):
        posterior.refit(theta, np.zeros((1000, 3)))


@pytest.mark.parametrize(
    ("theta", "x", "message"),
    [
        (np.full((30, 2), 0.5), np.zeros((30, 1)), "a is 0.5 in every row"),
        (np.full((30, 2), 3.0), np.zeros((30, 1)), r"excludes 30 of 30 rows.*a is 3.*widen"),
        (np.full((30, 2), np.nan), np.zeros((30, 1)), "30 rows of theta are NaN"),
        (np.zeros((30, 3)), np.zeros((30, 1)), "3 columns; the prior has 2 parameters: a, b"),
        (np.zeros((30, 2)), np.zeros((29, 1)), "one row of parameters for each"),
        (np.zeros((5, 2)), np.zeros((5, 1)), "5 rows; expected 20 or more"),
        (np.zeros((30, 2)), np.full((30, 1), np.nan), "30 numbers that are NaN"),
    ],
)
def test_bad_training_rows_are_refused(theta, x, message):
    with pytest.raises(ValueError, match=message):
        Posterior.fit(theta, x, PRIOR, SHORT, device="cpu")


def test_few_rows_of_many_features_do_not_make_it_too_sure():
    """300 rows of 75 features: a regression alone would fit a fourth of the noise away."""
    rng = np.random.default_rng(0)
    prior, x = IndependentPrior({"a": Normal()}), rng.normal(size=(1300, 75))
    theta = x @ rng.normal(size=(75, 1)) / 10 + 0.5 * rng.normal(size=(1300, 1))
    config = replace(QUICK, fit=replace(QUICK.fit, steps=60))
    posterior = Posterior.fit(theta[:300], x[:300], prior, config, device="cpu")
    inside = coverage(posterior.sample(x[300:], 200), theta[300:], [0.68, 0.95]).inside[:, 0]
    assert inside == pytest.approx([0.68, 0.95], abs=0.06)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitConfig(steps=0), "steps is 0"),
        (lambda: FitConfig(checks=0), "checks is 0"),
        (lambda: FitConfig(average=0.0), r"average is 0\.0"),
        (lambda: PosteriorConfig(members=0), "members is 0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_draws_and_blocks_that_no_row_has_are_refused(posterior):
    for ask in (posterior.sample, posterior.intervals):
        with pytest.raises(ValueError, match="samples is 0; expected 1 or more"):
            ask(X, n=0)
    theta, x = fold(100, 0)
    with pytest.raises(ValueError, match="no row has 'b'; leave that block out"):
        Posterior.fit(theta, {"a": x, "b": np.full((100, 2), np.nan)}, PRIOR, QUICK)


def test_refitting_may_lack_a_block(linear):
    theta = linear.prior.sample(100, 0).numpy()
    again = linear.refit(theta, {"image": theta}, FitConfig(steps=2))
    assert list(again.kinds) == ["image", "spectrum"]


def test_rows_see_all_their_evidence_or_one_block_or_a_part_and_never_nothing():
    torch.manual_seed(0)
    present = torch.ones(20_000, 3, dtype=torch.bool)
    count = _subset(present).sum(1)
    rest = 1 - WHOLE - ALONE  # each block by a coin, but one at least: 4/8 one, 3/8 two, 1/8 three
    for blocks, share in ((0, 0), (1, ALONE + rest / 2), (2, 3 * rest / 8), (3, WHOLE + rest / 8)):
        assert (count == blocks).float().mean().item() == pytest.approx(share, abs=0.01)


def test_what_lacks_stays_away_and_each_block_is_alone_as_often():
    torch.manual_seed(0)
    present = torch.tensor([[True, False, True]]).expand(20_000, 3)
    kept = _subset(present)
    assert not kept[:, 1].any()
    assert kept.any(1).all()
    alone = kept[kept.sum(1) == 1].float().mean(0)
    assert alone.tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("rows", "config", "expected"),
    [
        (3000, FitConfig(), 60 * 3000**0.5),
        (3000, FitConfig(passes=150.0), 150 * 3000 / 256),
        (40_000, FitConfig(passes=100.0, batch_size=250), 16_000),
        (100, FitConfig(passes=2.0), 500),
        (10**6, FitConfig(), 20_000),
        (10**6, FitConfig(passes=10.0), 20_000),
        (10**6, FitConfig(steps=7, passes=10.0), 7),
    ],
)
def test_steps_follow_the_rows_within_bounds(rows, config, expected):
    assert steps_for(rows, config) == int(expected)


@pytest.mark.parametrize(("rows", "share"), [(50, 0.1), (1000, 0.1), (3162, 0.05), (50_000, 0.0)])
def test_few_rows_drop_more_of_the_context(rows, share):
    assert dropout_for(rows, EstimatorConfig()) == pytest.approx(share, abs=1e-4)
    assert dropout_for(rows, EstimatorConfig(dropout=0.3)) == 0.3
