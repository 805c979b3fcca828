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
