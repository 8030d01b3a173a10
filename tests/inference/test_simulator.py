from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from scipy.stats import kstest, norm

from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig
from appulse.inference.novelty import novelty
from appulse.inference.posterior import PosteriorConfig
from appulse.inference.prior import IndependentPrior, Uniform
from appulse.inference.simulations import run_simulations
from appulse.inference.simulator import infer, predictive_check

PRIOR = IndependentPrior({"a": Uniform(-10.0, 10.0)})
CONFIG = PosteriorConfig(
    EstimatorConfig(width=24, depth=2, condition=24, time_power=0.0),
    FitConfig(steps=600, batch_size=128, learning_rate=5e-3),
)
X_OBS = np.array([2.0, 2.2])


def simulate(theta, rng):
    """Two measurements of one number: the posterior is N(mean, .1² / 2)."""
    return theta + 0.1 * rng.normal(size=2)


def fragile(theta, rng):
    if theta[0] > 5:
        raise RuntimeError("did not converge")
    return simulate(theta, rng) if theta[0] > -5 else np.array([np.nan, 1.0])


def ragged(theta, rng):
    return np.ones(1 + (theta[0] > 0))


THETA = PRIOR.sample(250, seed=1).numpy()


def test_simulations_do_not_depend_on_how_they_are_run(tmp_path, monkeypatch):
    source = "def simulate(theta, rng):\n    return theta + 0.1 * rng.normal(size=2)\n"
    (tmp_path / "toy_simulator.py").write_text(source)  # a module that workers can import
    monkeypatch.syspath_prepend(tmp_path)
    elsewhere = import_module("toy_simulator").simulate
    one = run_simulations(simulate, THETA, seed=3)
    two = run_simulations(elsewhere, THETA, seed=3, processes=2, folder=tmp_path / "runs")
    assert np.array_equal(one.x, two.x)
    assert not np.array_equal(one.x, run_simulations(simulate, THETA, seed=4).x)
    residual = (one.x - THETA) / 0.1
    assert kstest(residual.ravel(), "norm").pvalue > 0.01


def test_failures_are_set_aside_with_reasons():
    found = run_simulations(fragile, THETA)
    inside = (THETA[:, 0] > -5) & (THETA[:, 0] <= 5)
    assert np.array_equal(found.theta, THETA[inside])
    assert np.abs(found.x - found.theta).max() < 0.5
    assert len(found.failures) == (~inside).sum()
    for failure in found.failures:
        assert np.array_equal(failure.theta, THETA[failure.row])
        expected = "RuntimeError: did not converge" if failure.theta[0] > 5 else "1 of 2 outputs"
        assert failure.reason.startswith(expected)


def test_an_interrupted_run_goes_on(tmp_path):
    calls = []

    def counted(theta, rng):
        calls.append(theta[0])
        if len(calls) == 170:
            raise KeyboardInterrupt
        return fragile(theta, rng)

    with pytest.raises(KeyboardInterrupt):
        run_simulations(counted, THETA, folder=tmp_path)
    found = run_simulations(counted, THETA, folder=tmp_path)
    assert len(calls) == 170 + 150 + 1  # a hundred were done; the first is looked at again
    whole = run_simulations(fragile, THETA)
    assert np.array_equal(found.x, whole.x)
    assert [f.reason for f in found.failures] == [f.reason for f in whole.failures]


def test_a_folder_of_other_simulations_is_refused(tmp_path):
    run_simulations(simulate, THETA, folder=tmp_path)
    with pytest.raises(ValueError, match="holds simulations of other parameters"):
        run_simulations(simulate, THETA[1:], folder=tmp_path)
    with pytest.raises(ValueError, match="another seed"):
        run_simulations(simulate, THETA, seed=1, folder=tmp_path)


def test_hopeless_simulators_are_refused():
    with pytest.raises(
        ValueError, match="all 250 simulations failed; the first: ZeroDivisionError"
    ):
        run_simulations(lambda theta, rng: 1 / 0, THETA)
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]; expected one"):
        run_simulations(ragged, THETA)
    with pytest.raises(ValueError, match="processes is 0"):
        run_simulations(simulate, THETA, processes=0)


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("infer")
    return folder, infer(
        fragile, PRIOR, X_OBS, 1500, rounds=2, config=CONFIG, folder=folder, device="cpu"
    )


def test_truncated_rounds_find_a_narrow_posterior(inference):
    _, found = inference
    samples = found.sample(2000)[:, 0]
    assert kstest(samples, norm(2.1, 0.1 / np.sqrt(2)).cdf).statistic < 0.12
    assert found.posterior.prior.support(0)[1] - found.posterior.prior.support(0)[0] < 4
    low, high = found.posterior.prior.support(0)
    assert ((found.simulations.theta >= low) & (found.simulations.theta <= high)).all()
    assert len(found.simulations.theta) > 750  # those of the first round that are inside, too
    assert found.trusted
    assert 250 < len(found.simulations.failures) < 500


def test_inference_goes_on_from_its_folder(inference):
    folder, found = inference

    def counted(theta, rng):
        calls.append(1)
        return fragile(theta, rng)

    calls = []
    again = infer(counted, PRIOR, X_OBS, 1500, rounds=2, config=CONFIG, folder=folder, device="cpu")
    assert len(calls) == 3  # a look at each round, and at the predictive check
    assert np.array_equal(again.sample(10), found.sample(10))


def shifted(theta, rng):
    """Both measurements agree in the simulator; in the observation below they do not."""
    return theta + 0.1 * rng.normal(size=2)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("x_obs", [[40.0, 40.0], [-1e4, -1e4], [3.0, -3.0]])
def test_an_observation_outside_the_simulations_is_not_trusted(x_obs, rounds):
    quick = replace(CONFIG, fit=replace(CONFIG.fit, steps=60))
    found = infer(shifted, PRIOR, np.array(x_obs), 600, rounds=rounds, config=quick, device="cpu")
    assert not found.trusted
    assert any("far outside" in warning for warning in found.warnings)
    assert any("do not look like it" in warning for warning in found.warnings)


def test_false_alarms_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, size=(3000, 4))
    chances = np.array([novelty(row, x[:1000]).chance for row in x[1000:1400]])
    assert kstest(chances, "uniform").pvalue > 0.01
    assert novelty(np.full(4, 50.0), x).flagged
    assert novelty(x[0] + 1e-9, x).distance < 2


def test_few_simulations_flag_what_is_farther_out_than_all_of_them():
    sets = np.random.default_rng(0).normal(size=(400, 31, 2))
    flagged = [novelty(x[0], x[1:]).flagged for x in sets]
    assert np.mean(flagged) == pytest.approx(1 / 31, abs=0.025)
    assert novelty(np.full(2, 50.0), sets[0]).flagged


def test_the_check_is_simulated_by_all_processes(inference, tmp_path, monkeypatch):
    source = """
from multiprocessing import parent_process

def simulate(theta, rng):
    if parent_process() is None:
        raise RuntimeError("not in a worker")
    return theta + 0.1 * rng.normal(size=2)
"""
    (tmp_path / "toy_worker.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    simulator, (_, found) = import_module("toy_worker").simulate, inference
    assert predictive_check(simulator, found.posterior, X_OBS, processes=2).distance < 10


def test_the_check_of_each_observation_is_its_own(inference, tmp_path):
    posterior = inference[1].posterior
    for x_obs, flagged in ((X_OBS, False), (X_OBS + 5, True), (X_OBS, False)):
        check = predictive_check(simulate, posterior, x_obs, folder=tmp_path)
        assert check.flagged == flagged
    assert len(list((tmp_path / "check").iterdir())) == 2


def test_outputs_that_never_change_do_not_hide_a_difference():
    x = np.column_stack([np.random.default_rng(0).normal(size=500), np.full(500, 7.0)])
    assert not novelty(np.array([0.1, 7.0]), x).flagged
    assert novelty(np.array([0.1, 9.0]), x).flagged


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match=r"x_obs has shape \(2,\) and 1 numbers that are not"):
        infer(simulate, PRIOR, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="x_obs has 3 numbers, the simulator's output 2"):
        infer(simulate, PRIOR, np.ones(3), 100)
    with pytest.raises(ValueError, match="n is 10 and rounds 0"):
        infer(simulate, PRIOR, X_OBS, 10, rounds=0)
    with pytest.raises(ValueError, match="5 simulations; expected more than 5"):
        novelty(np.ones(1), np.ones((5, 1)))


def test_another_simulator_in_the_folder_is_noticed(tmp_path):
    run_simulations(simulate, THETA, folder=tmp_path)
    with pytest.raises(ValueError, match="simulations of another simulator: the first gave"):
        run_simulations(lambda theta, rng: 2 * simulate(theta, rng), THETA, folder=tmp_path)
    chance = np.random.default_rng()  # not the generator that it is given

    def whimsical(theta, rng):
        return theta + chance.normal(size=2)

    first = run_simulations(whimsical, THETA, folder=tmp_path / "whimsical")
    again = run_simulations(whimsical, THETA, folder=tmp_path / "whimsical")
    assert np.array_equal(first.x, again.x)


def test_a_posterior_where_the_simulator_fails_is_kept_with_a_warning():
    quick = replace(CONFIG, fit=replace(CONFIG.fit, steps=20))

    def hopeless(theta, rng):
        if len(calls) > 500:
            raise RuntimeError("no convergence")
        calls.append(1)
        return simulate(theta, rng)

    calls = []
    found = infer(hopeless, PRIOR, X_OBS, 500, config=quick, device="cpu")
    assert len(found.sample(10)) == 10
    assert not found.trusted
    assert any("simulations from the posterior failed" in text for text in found.warnings)


def test_no_simulations_are_refused():
    with pytest.raises(ValueError, match="simulations 0; expected 1 or more"):
        run_simulations(simulate, THETA[:0])
