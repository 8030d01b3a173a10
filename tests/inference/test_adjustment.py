import numpy as np
import pytest
import torch

from appulse.inference.adjustment import RegressionAdjustment
from appulse.inference.evidence import gather

SLOPE_A, SLOPE_B = np.array([[1.0, 0.5], [0.0, 2.0]]), np.array([[3.0], [-1.0]])
N = 4000


@pytest.fixture(scope="module")
def fitted():
    """u = A a + B b + noise: every conditional mean and covariance is known."""
    rng = np.random.default_rng(0)
    a, b = 5 + rng.normal(size=(N, 2)), rng.normal(size=(N, 1))
    u = a @ SLOPE_A.T + b @ SLOPE_B.T + 0.1 * rng.normal(size=(N, 2))
    context = {"a": a, "b": b}
    evidence = gather(context)
    adjustment = RegressionAdjustment(2, evidence.kinds)
    adjustment.learn(torch.from_numpy(u).float(), evidence)
    return adjustment, context, u


def covariance(root):
    return (root @ root.mT)[0].numpy()


def test_the_fit_is_the_known_one(fitted):
    adjustment, context, _ = fitted
    shift, root, *_ = adjustment(gather(context))
    expected = context["a"] @ SLOPE_A.T + context["b"] @ SLOPE_B.T
    assert np.abs(shift.numpy() - expected).max() < 0.05
    assert covariance(root) == pytest.approx(0.01 * np.eye(2), abs=1e-3)


def test_each_subset_has_its_own_fit(fitted):
    adjustment, context, _ = fitted
    shift, root, *_ = adjustment(gather({"a": context["a"]}, gather(context).kinds))
    assert np.abs(shift.numpy() - context["a"] @ SLOPE_A.T).max() < 0.3
    assert covariance(root) == pytest.approx(SLOPE_B @ SLOPE_B.T + 0.01 * np.eye(2), abs=0.4)
    shift, root, *_ = adjustment(gather({"b": context["b"]}, gather(context).kinds))
    assert covariance(root) == pytest.approx(SLOPE_A @ SLOPE_A.T, abs=0.3)


def test_mixed_rows_are_each_treated_by_what_they_have(fitted):
    adjustment, context, _ = fitted
    rows = {name: block[:3].copy() for name, block in context.items()}
    rows["b"][1] = np.nan
    shift, root, *_ = adjustment(gather(rows))
    for i, names in enumerate([("a", "b"), ("a",), ("a", "b")]):
        alone = gather({n: context[n][i : i + 1] for n in names}, gather(context).kinds)
        torch.testing.assert_close(
            (shift[i : i + 1], root[i : i + 1]), tuple(adjustment(alone))[:2]
        )


def test_constant_and_too_many_features_do_no_harm():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 50))
    x[:, 0] = 7.0
    evidence = gather(x)
    adjustment = RegressionAdjustment(1, evidence.kinds)
    adjustment.learn(torch.from_numpy(x[:, 1:2] + 0.1 * rng.normal(size=(30, 1))).float(), evidence)
    shift, root, *_ = adjustment(gather(rng.normal(size=(20, 50))))
    assert shift.isfinite().all()
    assert shift.std() < 2
    assert (root > 0).all()


def test_too_many_blocks_are_refused():
    kinds = gather({str(i): np.zeros((1, 1)) for i in range(9)}).kinds
    with pytest.raises(ValueError, match="9 blocks; expected 8"):
        RegressionAdjustment(1, kinds)


@pytest.fixture(scope="module")
def spiky():
    """A shift measured to 1e-3, but for a twentieth of the rows, among features of little use."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(N, 10))
    measured = x[:, 0] + 1e-3 * rng.normal(size=N)
    lost = rng.random(N) < 0.05
    measured[lost] = rng.normal(size=lost.sum())
    return x[:, :1], np.hstack([measured[:, None], x[:, 1:]])


def test_outliers_neither_move_the_fit_nor_set_its_width(spiky):
    u, x = (torch.from_numpy(a).float() for a in spiky)
    evidence = gather(spiky[1])
    adjustment = RegressionAdjustment(1, evidence.kinds, outliers=True)
    adjustment.learn(u, evidence)
    shift = adjustment(evidence).shift
    assert (shift - x[:, :1]).abs().median() < 1e-4
    r = adjustment(evidence).r(u[:, None])[:, 0, 0].numpy()
    assert np.quantile(np.abs(r), [0.5, 0.9]) == pytest.approx([0.67, 1.64], rel=0.5)
    assert np.abs(r).max() < 5


def test_coordinates_are_inverse_to_each_other_and_know_their_slope(spiky):
    evidence = gather(spiky[1])
    adjustment = RegressionAdjustment(2, evidence.kinds, outliers=True)
    u = torch.from_numpy(np.hstack([spiky[0], spiky[0] + spiky[1][:, 1:2]])).float()
    adjustment.learn(u, evidence)
    coordinates = type(adjustment(evidence))(*(a[:3].double() for a in adjustment(evidence)))
    r = torch.tensor([[[0.1, -0.2], [2.0, 1.0]]]).double().expand(3, 2, 2)
    torch.testing.assert_close(coordinates.r(coordinates.u(r)), r, rtol=1e-7, atol=1e-7)
    u, one = coordinates.u(r), type(coordinates)(*(a[:1] for a in coordinates))
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda v: one.r(v[None, None])[0, 0], u[0, i])
        expected = torch.linalg.slogdet(jacobian).logabsdet.item()
        assert coordinates.log_slope(u)[0, i].item() == pytest.approx(expected)


def test_evidence_is_scaled_by_the_rows_that_have_it():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 1)), 100 + rng.normal(size=(300, 2))
    b[50:] = np.nan
    evidence = gather({"a": a, "b": b})
    adjustment = RegressionAdjustment(1, evidence.kinds)
    adjustment.learn(torch.from_numpy(a).float(), evidence)
    assert adjustment.mean.numpy() == pytest.approx([a.mean(), *b[:50].mean(0)], rel=1e-4)
    assert adjustment.sd.numpy() == pytest.approx([a.std(), *b[:50].std(0)], rel=1e-4)
