"""What a polygon's edges cost before it is known whether they can be used.

Repairing a polygon takes up to the square of the number of its crossings. Any work on one looks at all pairs of edges
whose boxes overlap: few for the outline of a coast, all for long parallel edges that lie aslant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geosegsr.errors import WindowError

_MOST = 5_000
_PAIRS = 500_000  # candidates looked for at once, so that memory does not grow with the polygon
_FEW_EDGES = 4_000  # whose pairs are looked at in a second
_SAMPLED = 500
_MOST_NEAR = 100_000_000
_MOST_NEAR_INVALID = 20_000_000
"""Pairs of edges with overlapping boxes, counted from both: some 10 s of work, on invalid polygons a repair."""
_MOST_TOGETHER = 500_000
"""Crossings of the edges of all shapes, which are put together: some 10 s of work."""
_CLOSE = "lie so close that it would take minutes to check them. Pass simpler polygons"
_CROSSING = "cross each other more than {:,} times. Pass polygons whose edges do not cross"
_NEAR_AN_EDGE = 16
"""Pairs of an edge that count for nothing: any outline has a few, however long it is."""


def refuse_tangles(shapes: Iterable[Any], most: int = _MOST) -> None:
    """Refuse polygons that would take minutes and gigabytes to check or to repair.

    Any number of vertices is fine where most edges are far from most others.

    Raises:
        WindowError: The edges of one shape cross each other more than `most` times, or millions of them are close.
    """
    shapes = list(shapes)
    for shape in shapes:
        if fault := _fault(shape, most):
            raise _refusal("one of its shapes", shape, fault)
    together = shapely.GeometryCollection(shapes) if len(shapes) > 1 else None
    if together is not None and (fault := _fault_together(together)):
        raise _refusal("its shapes together", together, fault)


def _refusal(whose: str, shape: Any, fault: str) -> WindowError:
    west, south, east, north = (f"{side:.8g}" for side in shapely.bounds(shape))
    return WindowError(
        f"Cannot use the area of interest: the edges of {whose}, with "
        f"{shapely.get_num_coordinates(shape):,} vertices, {fault}, or the box around them: "
        f"--bbox {west} {south} {east} {north}, and --aoi-crs with the CRS of these coordinates."
    )


@np.errstate(all="ignore")  # edges without finite coordinates cross nothing
def _fault(shape: Any, most: int) -> str:
    """Why a shape cannot be used, and what to pass instead, in words; "" if it can."""
    few = shapely.get_num_coordinates(shape) <= _FEW_EDGES
    if few and shapely.is_valid(shape):
        return ""
    edges, tree, order = _searchable(shape)
    near = 0 if few else _near(tree, order)
    if near > _MOST_NEAR:
        return _CLOSE
    if not few and shapely.is_valid(shape):
        return ""
    if near > _MOST_NEAR_INVALID:
        return _CLOSE
    return _CROSSING.format(most) if _crosses_more(edges, tree, order, most) else ""


@np.errstate(all="ignore")
def _fault_together(shapes: Any) -> str:
    """As `_fault`, for shapes that are put together: their edges may cross those of others."""
    if shapely.get_num_coordinates(shapes) <= _FEW_EDGES:
        return ""
    edges, tree, order = _searchable(shapes)
    near = _near(tree, order)
    if near > _MOST_NEAR:
        return _CLOSE
    tangled = near > 2 * _MOST_TOGETHER and _crosses_more(edges, tree, order, _MOST_TOGETHER)
    return _CROSSING.format(_MOST_TOGETHER) if tangled else ""


def _searchable(shape: Any) -> tuple[NDArray[np.float64], Any, NDArray[np.intp]]:
    """The edges, a tree of them, and their numbers in random order.

    In this order any few edges stand for all: the number of candidates grows with the number of edges asked for.
    """
    edges = _edges(shape)
    return (
        edges,
        shapely.STRtree(shapely.linestrings(edges)),
        np.random.default_rng(0).permutation(len(edges)),
    )


def _near(tree: Any, order: NDArray[np.intp]) -> int:
    """About how many pairs of edges have boxes that overlap, from both their edges, beyond those of any outline."""
    asked = order[:_SAMPLED]
    found = sum(len(tree.query(tree.geometries[edge])) for edge in asked)
    return int((found / max(len(asked), 1) - _NEAR_AN_EDGE) * len(order))


def _crosses_more(edges: NDArray[np.float64], tree: Any, order: NDArray[np.intp], most: int) -> bool:
    """Whether edges cross more often than that; stops as soon as it is known."""
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
    rings = shapely.get_rings(shapely.get_parts(shapely.get_parts(shapely.get_parts(shape))))
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
