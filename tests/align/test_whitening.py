import numpy as np
import pytest
import torch

from appulse.align.whitening import Whitening


@pytest.fixture
def features():
    """Four that share most of their scatter, as fluxes of galaxies do."""
    rng = torch.Generator().manual_seed(2)
    common = 5 * torch.randn(300, 1, generator=rng, dtype=torch.float64)
    return common + torch.randn(300, 4, generator=rng, dtype=torch.float64) / 5 + 3


def learned(features):
    whiten = Whitening(features.shape[1]).double()
    whiten.learn(features)
    return whiten


def test_what_is_shared_shrinks_and_what_is_not_stays_small(features):
    x = features.numpy()
    correlation = np.corrcoef(x.T)
    expected = correlation @ np.linalg.inv(correlation + np.eye(4))
    found = np.cov(learned(features)(features).numpy().T, ddof=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh(found)
    assert eigenvalues[0] < 0.01
    assert 0.79 < eigenvalues[-1] < 0.8  # C's is nearly 4


def test_features_without_correlation_keep_their_shape():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    torch.testing.assert_close(learned(7 * x)(7 * x), x / 2**0.5)


def test_units_do_not_matter(features):
    scale = torch.tensor([1e-3, 1.0, 7.0, 1e4], dtype=torch.float64)
    other = features * scale - 5
    torch.testing.assert_close(learned(other)(other), learned(features)(features))


def test_a_feature_that_was_constant_is_ignored_whatever_it_becomes(features):
    features[:, 2] = 4.1
    whiten, later = learned(features), features.clone()
    later[:, 2] = torch.linspace(-5, 5, len(later))
    assert whiten(features).isfinite().all()
    torch.testing.assert_close(whiten(later), whiten(features), atol=0, rtol=0)
    others = [0, 1, 3]
    torch.testing.assert_close(
        whiten(features)[:, others], learned(features[:, others])(features[:, others])
    )
