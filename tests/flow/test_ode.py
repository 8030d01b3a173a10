import math

import pytest
import torch

from appulse.flow.ode import solve
from appulse.flow.velocity import VelocityConfig, VelocityNetwork

METHODS = ["midpoint", "rk4", "dopri5"]


def pendulum(x, t, rows):
    """A circle, once round in time 1, with a drift that depends on time."""
    return 2 * math.pi * torch.stack([-x[..., 1], x[..., 0]], -1)


@pytest.mark.parametrize(("method", "order"), [("midpoint", 2), ("rk4", 4)])
def test_fixed_steps_converge_at_their_order(method, order):
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def error(steps):
        return (solve(pendulum, x, method=method, steps=steps) - x).norm().item()

    assert math.log2(error(64) / error(128)) == pytest.approx(order, abs=0.3)


def test_time_enters_where_it_should():
    x = torch.zeros(3, 1, dtype=torch.float64)
    for method in METHODS:  # dx/dt = 3 t²
        end = solve(lambda x, t, rows: 3 * t.view(-1, 1).expand_as(x) ** 2, x, method=method)
        torch.testing.assert_close(end, torch.ones_like(x), atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_backwards_undoes_forwards(method):
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    there = solve(pendulum, x, 0.0, 0.7, method=method, steps=200, tolerance=1e-8)
    assert (there - x).norm() > 1
    back = solve(pendulum, there, 0.7, 0.0, method=method, steps=200, tolerance=1e-8)
    torch.testing.assert_close(back, x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_adaptive_steps_keep_the_tolerance(tolerance):
    x = torch.tensor([[1.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    error = (solve(pendulum, x, method="dopri5", tolerance=tolerance) - x).abs().max().item()
    assert error < 200 * tolerance


def test_a_hard_row_does_not_make_easy_ones_work_more():
    calls = {0: 0, 1: 0}

    def field(x, t, rows):
        for row in rows.tolist():
            calls[row] += 1
        rate = torch.tensor([1.0, 200.0], dtype=x.dtype)[rows]
        return torch.cos(rate * t)[:, None] * rate[:, None]

    x = torch.zeros(2, 1, dtype=torch.float64)
    end = solve(field, x, method="dopri5", tolerance=1e-6)
    expected = torch.tensor([[math.sin(1)], [math.sin(200)]], dtype=torch.float64)
    torch.testing.assert_close(end, expected, atol=1e-4, rtol=0)
    assert calls[1] > 5 * calls[0]


def test_rows_name_the_initial_rows():
    speed = torch.tensor([1.0, 50.0, -3.0], dtype=torch.float64)
    field = lambda x, t, rows: (speed[rows] * torch.cos(speed[rows] * t))[:, None]  # noqa: E731
    end = solve(field, torch.zeros(3, 1, dtype=torch.float64), method="dopri5", tolerance=1e-8)
    torch.testing.assert_close(end[:, 0], torch.sin(speed), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_many_samples_of_a_row_are_solved_as_alone(method):
    torch.manual_seed(0)
    network = VelocityNetwork(VelocityConfig(2, context=3, width=16, depth=1)).double()
    torch.nn.init.normal_(network.out.weight)
    x = torch.randn(4, 5, 2, dtype=torch.float64)
    context = torch.randn(4, 1, 3, dtype=torch.float64)
    how = {"method": method, "steps": 4, "tolerance": 1e-8}
    found = solve(lambda x, t, rows: network(x, t, context[rows]), x, **how)
    for i in range(5):
        alone = solve(lambda x, t, rows: network(x, t, context[rows, 0]), x[:, i], **how)
        torch.testing.assert_close(found[:, i], alone, atol=1e-6, rtol=0)


def test_what_cannot_be_solved_is_said():
    x = torch.ones(2, 1)
    with pytest.raises(ValueError, match="method is 'euler'; expected midpoint, rk4 or dopri5"):
        solve(pendulum, x, method="euler")
    with pytest.raises(ValueError, match="steps is 0"):
        solve(pendulum, x, steps=0)
    with pytest.raises(ArithmeticError, match=r"2 of 2 rows .* raise the tolerance"):
        solve(lambda x, t, rows: 10 * x**2, x, method="dopri5")  # infinite at t = .1
