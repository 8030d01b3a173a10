"""Draws what flow matching learns: paths to single points, and the field that carries all noise.

    python examples/flow_paths.py docs/flow.png

Left: conditional paths from noise to a few data points. Middle, at t = .5: the conditional
velocity towards one of them, and the marginal one, V(x, t) = E_z[V(x, t | z)]. Right: noise
carried along the marginal velocity becomes the data, two moons.
"""

import sys
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from appulse.figures import BLUE, GREEN, INK, ORANGE, STYLE
from appulse.flow.ode import solve
from appulse.flow.path import LinearPath, VariancePreservingPath, marginal_log_density
from appulse.flow.path import marginal_velocity as velocity

HALF = 0.5
TIMES = torch.linspace(0, 1, 40)


def moons(n: int, rng: torch.Generator) -> torch.Tensor:
    """Two interleaved half circles."""
    angle = torch.pi * torch.rand(n, generator=rng)
    upper = torch.rand(n, generator=rng) < 0.5
    x = torch.where(upper, angle.cos() - 0.5, 0.5 - angle.cos())
    y = torch.where(upper, angle.sin() - 0.25, 0.25 - angle.sin())
    return 1.3 * torch.stack([x, y], 1) + 0.05 * torch.randn(n, 2, generator=rng)


def draw_paths(axes: Axes, path: Any, data: torch.Tensor, noise: torch.Tensor) -> None:
    """Where the noise is on its way to the data."""
    for z, start in zip(data, noise, strict=True):
        points = path.point(z.expand(40, 2), start.expand(40, 2), TIMES)
        axes.plot(*points.T, color=INK, linewidth=0.7)
    axes.scatter(noise[:, 0], noise[:, 1], s=9, color=BLUE, zorder=3)
    axes.scatter(data[:, 0], data[:, 1], s=9, color=ORANGE, zorder=3)


def draw_field(axes: Axes, path: Any, target: torch.Tensor, data: torch.Tensor) -> None:
    """Arrows of the velocity at t = .5, where there is anything to move, shaded by density."""
    axis = torch.linspace(-2.4, 2.4, 15)
    grid = torch.cartesian_prod(axis, axis)
    t = torch.full((len(grid),), HALF)
    dense = marginal_log_density(path, grid, t, target) > -4.5
    fine = torch.cartesian_prod(*(torch.linspace(-2.4, 2.4, 80),) * 2)
    half = torch.full((len(fine),), HALF)
    density = marginal_log_density(path, fine, half, target).exp().reshape(80, 80)
    ends = (-2.4, 2.4, -2.4, 2.4)
    axes.imshow(density.T, origin="lower", extent=ends, cmap="Blues", alpha=0.6)
    arrows = velocity(path, grid, t, target)[dense]
    axes.quiver(*grid[dense].T, *arrows.T, color=INK, scale=28, width=0.006)
    axes.scatter(data[:, 0], data[:, 1], s=1, color=ORANGE, alpha=0.5)


def draw_flow(axes: Axes, path: Any, data: torch.Tensor, noise: torch.Tensor) -> None:
    """Noise, and where the marginal velocity carries it."""
    states = [noise]
    for start, end in zip(TIMES[:-1].tolist(), TIMES[1:].tolist(), strict=True):
        field = lambda x, t, rows: velocity(path, x, t.expand(len(x)), data)  # noqa: E731
        states.append(solve(field, states[-1], start, min(end, 0.999), method="midpoint", steps=2))
    ways = torch.stack(states).numpy()
    for k in range(24):
        axes.plot(ways[:, k, 0], ways[:, k, 1], color=INK, linewidth=0.7)
    axes.scatter(noise[:24][:, 0], noise[:24][:, 1], s=9, color=BLUE, zorder=3)
    axes.scatter(ways[-1][:, 0], ways[-1][:, 1], s=2, color=GREEN, zorder=3)


@rc_context(STYLE)
def figure() -> Figure:
    """A row for each path."""
    rng = torch.Generator().manual_seed(3)
    data, noise = moons(1500, rng), torch.randn(500, 2, generator=rng)
    sheet = Figure(figsize=(10.4, 5.4), layout="constrained")
    titles = ("conditional paths", "V(x, ½ | z), one z", "V(x, ½), all z", "noise to data")
    for row, path in zip(
        sheet.subplots(2, 4), (LinearPath(), VariancePreservingPath()), strict=True
    ):
        draw_paths(row[0], path, data[:12], noise[:12])
        draw_field(row[1], path, data[:1], data[:1])
        draw_field(row[2], path, data, data)
        draw_flow(row[3], path, data, noise)
        row[0].set_ylabel("linear" if isinstance(path, LinearPath) else "variance-preserving")
        for axes in row:
            axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
    for axes, title in zip(sheet.axes, titles, strict=False):
        axes.set_title(title)
    return sheet


if __name__ == "__main__":
    figure().savefig(sys.argv[1], dpi=130)
