import dataclasses

import numpy as np
import pytest

from appulse.survey.synthetic import camera
from appulse.survey.synthetic.images import (
    Neighbours,
    draw_neighbours,
    render_galaxies,
    render_neighbours,
)
from appulse.survey.synthetic.morphology import (
    CLASSES,
    DISTURBED,
    EDGE_ON,
    ELLIPTICAL,
    draw_morphology,
)
from appulse.units import PIXEL_SCALE


@pytest.fixture(scope="module")
def galaxies(population):
    return population[:200]


@pytest.fixture(scope="module")
def shapes(galaxies):
    return draw_morphology(galaxies, np.random.default_rng(1))


def with_(shape, **columns):
    n = len(shape.r_eff)
    arrays = {k: np.full(n, v, getattr(shape, k).dtype) for k, v in columns.items()}
    return dataclasses.replace(shape, **arrays)


def moments(image):
    """Centroid and second moments of one plane, arcsec."""
    axis = (np.arange(len(image)) - (len(image) - 1) / 2) * PIXEL_SCALE
    x, y = np.meshgrid(axis, axis)
    mean = lambda a: (image * a).sum() / image.sum()  # noqa: E731
    cx, cy = mean(x), mean(y)
    return cx, cy, mean((x - cx) ** 2), mean((y - cy) ** 2), mean((x - cx) * (y - cy))


def test_small_galaxies_keep_their_flux(galaxies, shapes):
    sharp = render_galaxies(shapes, galaxies.flux, 152)
    blurred = camera.blur(sharp, np.full((200, 3), 1.3))
    small = (shapes.r_eff < 1.5) & (shapes.sersic < 3.5)  # others reach beyond 40 arcsec
    assert small.sum() > 30
    for image, tolerance in ((sharp, 0.01), (blurred, 0.015)):
        total = image.sum((2, 3)).numpy()[small] / galaxies.flux[small]
        np.testing.assert_allclose(total, 1, atol=tolerance)


def test_a_galaxy_is_the_same_on_a_small_and_a_large_stamp(galaxies, shapes):
    small, large = (render_galaxies(shapes, galaxies.flux, size) for size in (96, 152))
    ratio = (small / large[..., 28:-28, 28:-28]).mean((1, 2, 3)).numpy()
    assert np.abs(ratio - 1).max() < 0.3  # a companion may lie beyond the small stamp
    assert np.percentile(np.abs(ratio - 1), 90) < 0.01


def test_every_class_has_its_colours_add_up(galaxies, shapes):
    image = render_galaxies(shapes, galaxies.flux, 152).sum((2, 3)).numpy()
    for kind in range(len(CLASSES)):
        compact = (shapes.kind == kind) & (shapes.r_eff < 3)
        assert compact.any()
        np.testing.assert_allclose(image[compact] / galaxies.flux[compact], 1, atol=0.06)


def test_position_and_shape_are_those_asked_for(galaxies, shapes):
    plain = with_(
        shapes[:40], kind=ELLIPTICAL, sersic=1.5, bulge_fraction=1, bulge_r_eff=1.5,
        bulge_ratio=0.5, arm_amplitude=0, bar_fraction=0, star_formation=0,
    )  # fmt: skip
    for shape, image in zip(
        plain.angle, render_galaxies(plain, galaxies.flux[:40], 152)[:, 1].numpy(), strict=True
    ):
        *_, xx, yy, xy = moments(image)
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        assert abs(np.sin(angle - shape)) < 0.02
        low, high = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
        assert np.sqrt(low / high) == pytest.approx(0.5, abs=0.02)
    small = render_galaxies(plain, galaxies.flux[:40], 96)[:, 1].numpy()
    centers = np.array([moments(image)[:2] for image in small])
    np.testing.assert_allclose(centers.T, [plain.center_x, plain.center_y], atol=0.01)


def test_a_companion_shines_where_it_was_put(galaxies, shapes):
    merger = with_(
        shapes[:40], kind=DISTURBED, angle=0, disk_scale=1.0, star_formation=0,
        companion_angle=np.pi / 2, companion_distance=6.0, companion_flux=0.8,
        bulge_fraction=0.02, bulge_r_eff=1.0,
    )  # fmt: skip
    image = render_galaxies(merger, galaxies.flux[:40], 96)[:, 1].numpy()
    middle, above = 47, round(47.5 + 6 / PIXEL_SCALE)
    there = image[:, above - 1 : above + 2, middle : middle + 2].sum((1, 2))
    beside = image[:, above - 1 : above + 2, middle + 12 : middle + 14].sum((1, 2))
    assert (there > 5 * beside).all()


def test_dust_lane_darkens_the_plane_most_in_g(galaxies, shapes):
    edge_on = shapes[np.flatnonzero(shapes.kind == EDGE_ON)]
    flux = np.ones((len(edge_on.r_eff), 3))
    wide = with_(edge_on, disk_scale=6.0, bulge_r_eff=1.0)  # a lane as wide as a pixel
    dusty = render_galaxies(with_(wide, lane=1.0), flux, 96)
    clear = render_galaxies(with_(wide, lane=0.0), flux, 96)
    middle = (dusty / clear)[:, :, 47:49, 47:49].mean((2, 3)).numpy()
    assert (middle[:, 0] < middle[:, 1]).all()
    assert (middle[:, 1] < 1).all()
    np.testing.assert_allclose(middle[:, 2], 1, atol=1e-5)
    np.testing.assert_allclose(dusty.sum((2, 3)), clear.sum((2, 3)), rtol=1e-4)


def test_neighbours_keep_flux_and_distance(shapes):
    neighbours = draw_neighbours(shapes.r_eff, np.random.default_rng(3))
    bright = neighbours.flux[:, 1] > 0
    assert bright.sum(1).mean() == pytest.approx(4.5, abs=1)
    distance = np.hypot(neighbours.x, neighbours.y)
    assert (distance / shapes.r_eff[:, None])[bright].min() > 2.2
    one = Neighbours(
        x=np.array([[3.0]]), y=np.array([[-5.0]]),
        sigma=np.array([[0.6]]), flux=np.array([[[1.0], [2.0], [3.0]]]),
    )  # fmt: skip
    image = render_neighbours(one, 96).numpy()[0]
    np.testing.assert_allclose(image.sum((1, 2)), [1, 2, 3], rtol=1e-4)
    np.testing.assert_allclose(moments(image[0])[:2], [3, -5], atol=1e-3)
