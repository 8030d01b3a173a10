import numpy as np
import pytest
import torch

from appulse.inference.adjustment import RegressionAdjustment
from appulse.inference.evidence import gather
from appulse.inference.regression import RIDGE, RIDGE_PER_FEATURE, best_fit


def linear(n, features, seed=0):
    """θ = x · w + noise of .5, most of w being 0."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=features) * (rng.random(features) < 0.3) / np.sqrt(0.3 * features)
    x = rng.normal(size=(n, features))
    return x, x @ w + 0.5 * rng.normal(size=n)


def test_unseen_residuals_are_those_of_fits_without_the_row():
    x, y = (torch.from_numpy(a) for a in linear(40, 5, seed=1))
    fit = best_fit(x, y, torch.ones(5, dtype=torch.bool), [], outliers=False)
    assert fit.slope.any()
    share = (RIDGE + RIDGE_PER_FEATURE * 5 / 40) * 40  # the penalty on sums, equal for all fits
    for i in range(40):
        others = torch.arange(40) != i
        away, rest = x[others] - x[others].mean(0), y[others] - y[others].mean()
        slope = torch.linalg.solve(away.T @ away + share * torch.eye(5), away.T @ rest)
        alone = y[i] - y[others].mean() - (x[i] - x[others].mean(0)) @ slope
        assert fit.rest[i].item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize(("rows", "features"), [(300, 75), (1000, 150)])
def test_learned_rows_look_like_new_ones(rows, features, outliers):
    x, y = linear(rows + 4000, features)
    u = torch.from_numpy(y[:, None]).float()
    known, new = gather(x[:rows]), gather(x[rows:])
    adjustment = RegressionAdjustment(1, known.kinds, outliers)
    pull = adjustment.learn(u[:rows], known)
    ours = adjustment(known, pull).r(u[:rows, None]).std().item()
    naive = adjustment(known).r(u[:rows, None]).std().item()
    theirs = adjustment(new).r(u[rows:, None]).std().item()
    assert ours == pytest.approx(1, abs=0.01)
    assert 0.9 < theirs < 1.12
    assert naive < 0.95 * theirs  # the fault that the pull is there for


@pytest.mark.parametrize("outliers", [False, True])
def test_evidence_that_few_rows_have_does_not_feign_certainty(outliers):
    """30 of 1,000 rows have both blocks, of 20 features each: that cannot be fitted."""
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(2000, 1))
    a, b = theta + 0.5 * rng.normal(size=(2, 2000, 20))
    some = b[:1000].copy()
    some[30:] = np.nan
    known = gather({"a": a[:1000], "b": some})
    adjustment = RegressionAdjustment(1, known.kinds, outliers)
    u = torch.from_numpy(theta).float()
    adjustment.learn(u[:1000], known)
    r = adjustment(gather({"a": a[1000:], "b": b[1000:]})).r(u[1000:, None])[:, 0, 0]
    assert (r.abs() < 1).float().mean() == pytest.approx(0.68, abs=0.15)
    assert (r.abs() < 2).float().mean() > 0.9


def test_a_fit_that_does_worse_than_none_is_not_taken():
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=shape)) for shape in ((30, 25), (30,)))
    fit = best_fit(x, y, torch.ones(25, dtype=torch.bool), [], outliers=False)
    assert not fit.slope.any()
    torch.testing.assert_close(fit.rest, (y - y.mean()) * 30 / 29)


def test_two_blocks_with_outliers_share_the_slope():
    """Each alone has a fit for outliers; both together must still be worth more than one."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(2000, 1))
    a, b = theta + 0.05 * rng.normal(size=(2, 2000, 1))
    for block in (a, b):
        lost = rng.random(2000) < 0.05
        block[lost] = rng.normal(size=(lost.sum(), 1))
    evidence = gather({"a": a, "b": b})
    adjustment = RegressionAdjustment(1, evidence.kinds, outliers=True)
    adjustment.learn(torch.from_numpy(theta).float(), evidence)
    assert (adjustment.share[1:] > 0).all()
    slope = (adjustment.slope[3, 0] / adjustment.sd).numpy()
    assert slope == pytest.approx([0.5, 0.5], abs=0.15)
    assert adjustment.core[3, 0] < 0.8 * adjustment.core[1, 0]
