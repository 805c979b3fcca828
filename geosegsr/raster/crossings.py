"""How often a polygon's edges cross: repairing one costs up to the square of that, whatever its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geosegsr.errors import WindowError

_MOST = 5_000
_PAIRS = 500_000  # candidates looked for at once, so that memory does not grow with the polygon


def refuse_tangles(shapes: Iterable[Any], most: int = _MOST) -> None:
    """Refuse polygons that would take minutes and gigabytes to repair.

    Valid polygons may have any number of vertices.

    Raises:
        WindowError: The edges of one shape cross each other more than `most` times.
    """
    for shape in shapes:
        if not shapely.is_valid(shape) and _crosses_more(shape, most):
            west, south, east, north = (f"{side:.8g}" for side in shapely.bounds(shape))
            raise WindowError(
                f"Cannot use the area of interest: the edges of one of its shapes, with "
                f"{shapely.get_num_coordinates(shape):,} vertices, cross each other more than {most:,} times. "
                "Pass polygons whose edges do not cross, or the box around this one: "
                f"--bbox {west} {south} {east} {north}, and --aoi-crs with the CRS of these coordinates."
            )


@np.errstate(all="ignore")  # edges without finite coordinates cross nothing
def _crosses_more(shape: Any, most: int) -> bool:
    """Whether edges cross more often than that; stops as soon as it is known."""
    edges = _edges(shape)
    tree = shapely.STRtree(shapely.linestrings(edges))
    # In random order, any few edges stand for all: the number of candidates grows with the number of edges asked for.
    order = np.random.default_rng(0).permutation(len(edges))
    found, start, count = 0, 0, 1
    while start < len(order) and found <= 2 * most:  # each crossing is found from both its edges
        asked = order[start : start + count]
        which, other = tree.query(tree.geometries[asked])
        found += int(_cross(edges[asked[which]], edges[other]).sum())
        start += count
        if len(which) < _PAIRS // 2:
            count *= 2
    return found > 2 * most


def _edges(shape: Any) -> NDArray[np.float64]:
    """The edges of all rings; shape (edges, 2 ends, x and y)."""
    rings = shapely.get_rings(shapely.get_parts(shapely.get_parts(shape)))
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[:-1] == ring[1:]
    return np.stack([xy[:-1][same], xy[1:][same]], axis=1)


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether two edges cross between their ends; both of shape (pairs, 2, 2)."""
    apart = _side(one, other[:, 0]) * _side(one, other[:, 1]) < 0
    across = _side(other, one[:, 0]) * _side(other, one[:, 1]) < 0
    return apart & across


def _side(edge: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive left of an edge, negative right of it, 0 on it."""
    (x, y), (u, v) = (edge[:, 1] - edge[:, 0]).T, (point - edge[:, 0]).T
    side: NDArray[np.float64] = np.sign(x * v - y * u)
    return side
