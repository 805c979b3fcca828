"""Where a raster lies in longitude and latitude, and how far apart its pixels are on the ground. No I/O."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import antimeridian
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer, RPCTransformer
from shapely.geometry.polygon import orient

from geosegsr.raster.metadata import Metadata

_POINTS_A_SIDE = 32  # the sides of a projected raster are curves in longitude and latitude
_DECIMALS = 1e-7  # of a degree: a centimetre
_DEGREE_M = 111_320.0

_Placing = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[Any, Any]]


def footprint(metadata: Metadata) -> shapely.Geometry | None:
    """Outline of a raster's grid, pixels without data included, in WGS 84.

    Two polygons where it crosses the antimeridian; up to the pole where it holds one.

    Returns:
        (longitude, latitude), counter-clockwise; None where nothing places the raster on the Earth.
    """
    place = _placing(metadata)
    if place is None:
        return None
    along = np.linspace(0.0, 1.0, _POINTS_A_SIDE, endpoint=False)
    start, end = np.zeros_like(along), np.ones_like(along)
    cols = np.concatenate([start, along, end, 1 - along]) * metadata.width
    rows = np.concatenate([along, end, 1 - along, start]) * metadata.height
    lon, lat = place(*((cols, rows) if _rows_go_south(metadata) else (cols[::-1], rows[::-1])))
    known = np.isfinite(lon) & np.isfinite(lat)
    if known.sum() < 4:
        return None
    return _on_the_globe(lon[known], lat[known], tolerance=(ground_sample_distance(metadata) or 0) / 2)


def bounding_box(outline: shapely.Geometry) -> list[float]:
    """West, south, east, north of a footprint; west is the larger number where it crosses the antimeridian."""
    return [float(side) for side in antimeridian.bbox(outline)]


def ground_sample_distance(metadata: Metadata) -> float | None:
    """Metres between neighbouring pixels at the raster's centre, the longer way, to three digits."""
    place = _placing(metadata)
    if place is None:
        return None
    col, row = metadata.width / 2, metadata.height / 2
    lon, lat = place(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    _, _, metres = Geod(ellps="WGS84").inv(
        np.repeat(lon[0], 2), np.repeat(lat[0], 2), np.asarray(lon[1:]), np.asarray(lat[1:])
    )
    longest = float(np.max(metres))
    return float(f"{longest:.3g}") if math.isfinite(longest) and longest > 0 else None


def _placing(metadata: Metadata) -> _Placing | None:
    """From (col, row) of pixel corners to longitude and latitude; None where there is no way."""
    if metadata.transform is not None and metadata.crs is not None:
        t = metadata.transform
        return _to_degrees(
            lambda cols, rows: (t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f), metadata.crs
        )
    if metadata.gcps and metadata.gcps_crs is not None:
        return _to_degrees(lambda cols, rows: _by_points(metadata, cols, rows), metadata.gcps_crs)
    if metadata.rpcs:
        return lambda cols, rows: _by_polynomials(metadata, cols, rows)
    return None


def _by_points(metadata: Metadata, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[Any, Any]:
    with GCPTransformer(metadata.gcps) as transformer:
        x, y = transformer.xy(rows, cols, offset="ul")
    return np.asarray(x), np.asarray(y)


def _by_polynomials(
    metadata: Metadata, cols: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[Any, Any]:
    rpcs = RPC.from_gdal(metadata.rpcs)
    with RPCTransformer(rpcs) as transformer:
        lon, lat = transformer.xy(rows, cols, zs=np.full(len(rows), rpcs.height_off), offset="ul")
    return np.asarray(lon), np.asarray(lat)


def _to_degrees(place: _Placing, crs: Any) -> _Placing | None:
    try:
        transformer = Transformer.from_crs(crs.to_wkt(), "OGC:CRS84", always_xy=True)
    except ProjError:  # a CRS of its own, tied to no place on the Earth
        return None
    return lambda cols, rows: transformer.transform(*place(cols, rows))


def _rows_go_south(metadata: Metadata) -> bool:
    """Whether the pixel grid is seen from above, as nearly all are, and not from below or in a mirror."""
    return metadata.transform is None or metadata.transform.determinant < 0


def _on_the_globe(
    lon: NDArray[np.float64], lat: NDArray[np.float64], *, tolerance: float
) -> shapely.Geometry | None:
    """A ring of points as polygons within [-180, 180]; those less than the tolerance (metres) off go.

    None for a ring that crosses itself, as beyond the ends of a projection.
    """
    lat = np.clip(lat, -90, 90)
    unrolled = np.unwrap(np.append(lon, lon[0]), period=360)
    if np.ptp(unrolled[:-1]) > 360 - _DECIMALS and abs(unrolled[-1] - unrolled[0]) < 180:
        return shapely.box(-180, lat.min(), 180, lat.max())
    if abs(unrolled[-1] - unrolled[0]) < 180:
        ring = shapely.Polygon(np.column_stack([unrolled[:-1], lat])).simplify(tolerance / _DEGREE_M)
    else:  # once around: it holds a pole
        ring = shapely.Polygon(np.column_stack([lon, lat]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", antimeridian.FixWindingWarning)
        try:
            fixed = antimeridian.fix_polygon(ring, great_circle=False)
        except ValueError:  # points that it takes for one
            fixed = ring
    if not fixed.is_valid:
        return None
    rounded = shapely.set_precision(fixed, _DECIMALS)
    # Of pixels less than a millimetre wide nothing would be left.
    parts = [orient(part) for part in shapely.get_parts(fixed if rounded.is_empty else rounded)]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
