"""Crossings of a polygon's edges are counted exactly, up to the limit."""

import numpy as np
import pytest
import shapely

from geosegsr.errors import WindowError
from geosegsr.raster.crossings import refuse_tangles


def crossings(polygon: shapely.Polygon) -> int:
    """Pair by pair."""
    ends = shapely.get_coordinates(polygon)
    edges = shapely.linestrings(np.stack([ends[:-1], ends[1:]], axis=1))
    return int(np.triu(shapely.crosses(edges[:, None], edges[None])).sum())


@pytest.mark.parametrize("seed", range(5))
def test_as_many_crossings_as_allowed_pass(seed: int) -> None:
    tangle = shapely.Polygon(np.random.default_rng(seed).uniform(0, 100, (30, 2)))
    most = crossings(tangle)
    refuse_tangles([tangle], most)
    for shape in (tangle, shapely.MultiPolygon([tangle]), shapely.GeometryCollection([tangle])):
        with pytest.raises(WindowError, match="31 vertices"):
            refuse_tangles([shapely.box(0, 0, 1, 1), shape], most - 1)


def comb(teeth: int, *, crossed: bool) -> shapely.Polygon:
    """Teeth that lean over: each of their edges shares its box with thousands of others."""
    foot = np.stack([np.arange(teeth), np.zeros(teeth)], axis=1)
    tip = foot + np.array([teeth + 0.5, teeth])
    ring = [*np.stack([foot, tip], axis=1).reshape(-1, 2), (2 * teeth + 5, -10), (-5, -10)]
    return shapely.Polygon(ring + ([(-5, -9), (-6, -9), (-4, -9.5)] if crossed else []))


@pytest.mark.parametrize("crossed", [False, True])
def test_edges_with_thousands_of_others_close_by_are_refused_before_they_are_compared(
    crossed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("is_valid", "make_valid"):
        monkeypatch.setattr(shapely, name, None)
    with pytest.raises(WindowError, match=r"40,0\d\d vertices, lie so close.*simpler polygons.*--bbox"):
        refuse_tangles([comb(20_000, crossed=crossed)])


def test_an_invalid_comb_may_be_smaller_than_a_valid_one() -> None:
    refuse_tangles([comb(3_000, crossed=False)])
    assert not shapely.is_valid(comb(3_000, crossed=True))
    with pytest.raises(WindowError, match="lie so close"):
        refuse_tangles([comb(3_000, crossed=True)])
    refuse_tangles([comb(300, crossed=True)])


def test_an_outline_of_many_vertices_is_fine_whatever_its_length() -> None:
    angle = np.linspace(0, 2 * np.pi, 200_001)[:-1]
    waves = 1000 + 50 * np.sin(900 * angle)
    xy = np.stack([waves * np.cos(angle), waves * np.sin(angle)], axis=1)
    refuse_tangles([shapely.Polygon(xy)])
    xy[[7, 8]] = xy[[8, 7]]
    assert not shapely.is_valid(shapely.Polygon(xy))
    refuse_tangles([shapely.Polygon(xy)])


def bars(count: int) -> list[shapely.Polygon]:
    """Long thin boxes across each other."""
    return [
        shape
        for n in range(count)
        for shape in (
            shapely.box(n * 10, -5, n * 10 + 3, count * 10),
            shapely.box(-5, n * 10, count * 10, n * 10 + 3),
        )
    ]


def test_shapes_that_cross_each_other_are_counted_together() -> None:
    refuse_tangles(bars(150))  # 90,000 crossings
    with pytest.raises(
        WindowError, match=r"its shapes together, with 10,000 vertices, cross each other more than 500,000"
    ):
        refuse_tangles(bars(1000))
    refuse_tangles(
        [shapely.box(n * 10, m * 10, n * 10 + 10, m * 10 + 10) for n in range(100) for m in range(100)]
    )


def test_edges_that_only_touch_do_not_cross() -> None:
    """As where pixels were traced across their corners."""
    ring = [(0, 0), (1, 1), (2, 0), (2, 2), (1, 1), (0, 2)]
    assert not shapely.is_valid(shapely.Polygon(ring))
    refuse_tangles([shapely.Polygon(ring), shapely.Point(0, 0), shapely.Polygon()], 0)


def test_coordinates_without_a_place_are_left_to_others() -> None:
    with np.errstate(invalid="ignore"):
        nowhere = shapely.from_wkt("POLYGON ((0 0, inf 1, 1 0, 1 nan, 0 0))")
    far = shapely.from_wkt("POLYGON ((0 0, 1e308 1e308, 1e308 0, 0 1e308, 0 0))")
    refuse_tangles([nowhere, far, shapely.from_wkt("LINESTRING (0 0, 0 0)")])
