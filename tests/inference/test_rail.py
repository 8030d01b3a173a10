import numpy as np
import pytest

from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig
from appulse.inference.posterior import Posterior, PosteriorConfig
from appulse.inference.prior import IndependentPrior, Normal
from appulse.inference.rail import qp_ensemble

X = np.array([[-1.0], [0.4], [2.0]])
EDGES = np.linspace(-4, 4, 401)


@pytest.fixture(scope="module")
def posterior():
    """Of two parameters; that of `redshift` is N(x / 2, 1 / 2) exactly."""
    prior = IndependentPrior({"mass": Normal(), "redshift": Normal()})
    theta = prior.sample(4000, 1).numpy()
    seen = theta[:, 1:] + np.random.default_rng(1).normal(size=(4000, 1))
    config = PosteriorConfig(EstimatorConfig(width=16, depth=1), FitConfig(steps=20))
    return Posterior.fit(theta, seen, prior, config, device="cpu")


def test_the_ensemble_is_the_exact_posterior(posterior):
    pytest.importorskip("qp", reason="the extra rail is not installed")
    ensemble = qp_ensemble(posterior, "redshift", X, EDGES, n=20_000)
    assert ensemble.npdf == 3
    np.testing.assert_allclose(ensemble.mean().ravel(), X[:, 0] / 2, atol=0.04)
    np.testing.assert_allclose(ensemble.std().ravel(), np.sqrt(0.5), rtol=0.05)
    at = np.linspace(-3, 3, 61)
    exact = np.exp(-((at - X / 2) ** 2)) / np.sqrt(np.pi)
    assert np.abs(ensemble.pdf(at) - exact).mean() < 0.03
    np.testing.assert_allclose(ensemble.cdf(X / 2).ravel(), 0.5, atol=0.03)


def test_files_keep_densities_and_ids(posterior, tmp_path):
    qp = pytest.importorskip("qp", reason="the extra rail is not installed")
    ensemble = qp_ensemble(posterior, "redshift", X, EDGES, ids=np.array([7, 8, 9]), n=2000)
    ensemble.write_to(str(tmp_path / "redshifts.hdf5"))
    read = qp.read(str(tmp_path / "redshifts.hdf5"))
    assert read.ancil["id"].tolist() == [7, 8, 9]
    at = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(read.pdf(at), ensemble.pdf(at))


def test_unknown_parameters_are_named(posterior):
    with pytest.raises(ValueError, match="no parameter named 'z'; the posterior has mass, redsh"):
        qp_ensemble(posterior, "z", X, EDGES)
