"""An area of interest: the window of whole input pixels around it, and which of them belong to it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform as transform_coordinates

from geosegsr.errors import ConfigError, WindowError
from geosegsr.files import decoded
from geosegsr.raster.crossings import refuse_tangles
from geosegsr.raster.gdal import GDALError
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

# Polygons are rasterised in squares of this fixed grid, so that the result for a pixel never depends on the window.
_CHUNK = 1024

# An area that reaches farther beyond a scene, in units of the scene's size, is clipped to the scene's surroundings before
# it is reprojected.
_FAR = 2.0
_NEAR = 0.02
_NO_PLAIN_GEOMETRY = (shapely.errors.ShapelyError, NotImplementedError)
_POINTS_A_SIDE = 50  # between two of them, a curved side leaves its box by far less than this margin
_EWKT = re.compile(r"\s*SRID=(\d{1,6});", re.IGNORECASE)

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Area:
    """Part of a scene, in its pixels."""

    window: Window
    """Snapped outward to whole pixels."""
    polygon: bytes | None = None
    """WKB in (col, row) of the scene's pixel corners; None if the area is exactly the window."""

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Pixels that the area touches; shape (height, width) of a window of the scene."""
        inside = np.zeros((window.height, window.width), dtype=bool)
        own = self.window
        rows = slice(max(own.row - window.row, 0), max(own.row_stop - window.row, 0))
        cols = slice(max(own.col - window.col, 0), max(own.col_stop - window.col, 0))
        inside[rows, cols] = True
        if self.polygon is None:
            return inside
        for row in range(window.row // _CHUNK * _CHUNK, window.row_stop, _CHUNK):
            for col in range(window.col // _CHUNK * _CHUNK, window.col_stop, _CHUNK):
                burnt = _burn(self.polygon, row, col)
                top, left = max(row, window.row), max(col, window.col)
                bottom, right = min(row + _CHUNK, window.row_stop), min(col + _CHUNK, window.col_stop)
                inside[top - window.row : bottom - window.row, left - window.col : right - window.col] &= (
                    burnt[top - row : bottom - row, left - col : right - col]
                )
        return inside


@lru_cache(maxsize=64)
def _burn(polygon: bytes, row: int, col: int) -> NDArray[np.bool_]:
    burnt = rasterize(
        [shapely.from_wkb(polygon)],
        out_shape=(_CHUNK, _CHUNK),
        transform=Affine.translation(col, row),
        all_touched=True,
        dtype="uint8",
    )
    mask: NDArray[np.bool_] = burnt.astype(bool)
    return mask


def area_from_window(scene: Scene, window: Sequence[int]) -> Area:
    """An area from (col, row, width, height) in the scene's pixels."""
    col, row, width, height = _four(window, operator.index, "window", "whole numbers", "COL ROW WIDTH HEIGHT")
    if (
        col < 0
        or row < 0
        or width < 1
        or height < 1
        or col + width > scene.width
        or row + height > scene.height
    ):
        raise WindowError(
            f"Cannot use window {tuple(window)} (col, row, width, height): it does not lie inside '{scene.path}', "
            f"which has {scene.width} columns and {scene.height} rows. Pass a --window inside the scene."
        )
    return Area(Window(row, col, height, width))


def area_from_bbox(scene: Scene, bbox: Sequence[float], crs: str | None = None) -> Area:
    """An area from (west, south, east, north) in the scene's CRS or the one given.

    In longitudes, a west that is more than east means a box that crosses 180 degrees.
    """
    west, south, east, north = _four(bbox, float, "bbox", "numbers", "WEST SOUTH EAST NORTH")
    own = _parse_crs(crs)
    if np.isfinite(bbox).all() and south < north and _crosses_antimeridian(west, east, own or scene.crs):
        box = shapely.box(west, south, east + 360, north)
        both = shapely.union_all(_turned(box, own or scene.crs)[:2])  # in longitudes up to 180, and beyond
        return _area(scene, both, own, whole_box=False)
    if not (np.isfinite(bbox).all() and west < east and south < north):
        raise WindowError(
            f"Cannot use bounding box {tuple(bbox)}: west must be less than east and south less than north, "
            "and all four finite. West may be more than east only in longitudes, where the box crosses 180 degrees. "
            "Pass --bbox W S E N."
        )
    return _area(scene, shapely.box(west, south, east, north), own, whole_box=True)


def _crosses_antimeridian(west: float, east: float, crs: CRS | None) -> bool:
    """Whether a box goes from one longitude eastwards over 180 degrees to the other, as RFC 7946 writes it."""
    return crs is not None and crs.is_geographic and -180 <= east < west <= 180


def _four(
    values: Any, number: Callable[[Any], Number], name: str, what: str, order: str
) -> tuple[Number, ...]:
    """Four numbers, as an option takes them."""
    try:
        found = tuple(number(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != 4:
        raise WindowError(
            f"Cannot use {name} {values!r}: it must be four {what}. Pass --{name} {order}, or in Python "
            f"{name}=({', '.join(order.split())})."
        )
    return found


def area_from_geometry(scene: Scene, source: str | Path, crs: str | None = None) -> Area:
    """An area from polygons.

    Args:
        scene: What the area is part of.
        source: A vector file (GeoJSON, GeoPackage, Shapefile, ...; a .wkt file too), WKT or GeoJSON text.
        crs: CRS of the coordinates; by default the file's own, longitude and latitude for GeoJSON text, and
            the scene's for WKT.

    Raises:
        WindowError: The area lies outside the scene, has no polygon on it, or crosses itself too often to repair.
        ConfigError: The source cannot be read, or is no geometry.
    """
    geometry, own_crs = _load_geometry(str(source))
    try:
        return _area(scene, geometry, _parse_crs(crs) or own_crs, whole_box=False)
    except shapely.errors.GEOSException as error:
        raise WindowError(
            f"Cannot use the area of interest: its coordinates make no polygon on '{scene.path}' "
            f"({' '.join(str(error).split())}). Pass an area near the scene, and --aoi-crs with the CRS that its "
            "coordinates are in."
        ) from error


def _load_geometry(source: str) -> tuple[Any, CRS | None]:
    path = Path(source)
    try:
        is_file = path.is_file()
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (OSError, ValueError):  # too long for a name, or a character that none can have
        is_file = False
    try:
        if is_file and path.suffix.lower() != ".wkt":
            return _read_vector_file(path)
        text = _read_text(path) if is_file else source
        is_geojson = text.lstrip().startswith("{")
        srid = _EWKT.match(text)
        geometry = shapely.from_geojson(text) if is_geojson else shapely.from_wkt(_EWKT.sub("", text))
        refuse_tangles([geometry])
        code = "EPSG:4326" if is_geojson else f"EPSG:{srid[1]}" if srid else None
        return geometry, _parse_crs(code)
    except NotImplementedError as error:  # curves
        raise _not_plain(_shortened(source), error) from error
    except (shapely.errors.ShapelyError, UnicodeDecodeError) as error:
        shown = _shortened(source)
        # Only text with brackets was meant as coordinates, so that the parser's reason helps.
        said = _said(error)[:200]
        reason = f" ({said})" if said and set(source) & set("({") else ""
        found = "it holds" if is_file else "it is not a file, and"
        raise ConfigError(
            f"Cannot use area of interest '{shown}': {found} neither WKT nor GeoJSON{reason}. "
            "Pass --aoi FILE or WKT."
        ) from error


def _shortened(source: str) -> str:
    return source if len(source) <= 80 else source[:77] + "..."


def _read_text(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"Cannot read area of interest '{path}': {error.strerror or error}. Pass --aoi with a file that you may read."
    )


def _read_vector_file(path: Path) -> tuple[Any, CRS | None]:
    import pyogrio

    try:
        meta, _, geometries, _ = pyogrio.raw.read(path, columns=[])
        found = [] if geometries is None else shapely.from_wkb(geometries)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise ConfigError(
            f"Cannot read area of interest '{path}': {str(error).partition(';')[0].rstrip('.')}. "
            "Pass --aoi with a vector file."
        ) from error
    except _NO_PLAIN_GEOMETRY as error:
        raise _not_plain(str(path), error) from error
    shapes = [shape for shape in found if shape is not None]
    if not shapes:
        raise ConfigError(
            f"Cannot use area of interest '{path}': it holds no geometry. Pass --aoi with polygons."
        )
    refuse_tangles(shapes)
    return _union(shapes), _parse_crs(meta["crs"])


def _said(error: Exception) -> str:
    """What a parser of geometries says, in one line."""
    return " ".join(str(error).removeprefix("ParseException: ").split())


def _not_plain(shown: str, error: Exception) -> ConfigError:
    reason = _said(error).rstrip(".")
    return ConfigError(
        f"Cannot use area of interest '{shown}': it holds geometries that are no plain polygons ({reason}). "
        "Pass --aoi with polygons of straight edges: ogr2ogr -nlt CONVERT_TO_LINEAR OUT IN."
    )


def _union(shapes: list[Any]) -> Any:
    try:
        return shapely.union_all(shapes)
    except shapely.errors.GEOSException:  # shapes that cross themselves where they meet others
        return shapely.union_all(shapely.make_valid(shapes))


def _parse_crs(text: str | None) -> CRS | None:
    if text is None:
        return None
    try:
        with rasterio.Env():  # inside one, PROJ's messages go to the log instead of the terminal
            return CRS.from_user_input(text)
    except CRSError as error:
        raise ConfigError(
            f"Cannot use CRS '{text}': it is not a known code, WKT or PROJ text. Pass for example --aoi-crs EPSG:4326."
        ) from error


def _area(scene: Scene, geometry: Any, crs: CRS | None, *, whole_box: bool) -> Area:
    if scene.transform is None:
        raise WindowError(
            f"Cannot place an area of interest on '{scene.path}': it has no geotransform. "
            "Pass --window COL ROW WIDTH HEIGHT."
        )
    if shapely.is_empty(geometry) or not np.isfinite(shapely.bounds(geometry)).all():
        raise WindowError("Cannot use the area of interest: it is empty. Pass --aoi with polygons.")
    if shapely.get_dimensions(geometry) < 2:
        raise WindowError(
            f"Cannot use the area of interest: it is a {geometry.geom_type}. Pass --aoi with polygons."
        )
    same = crs is None or scene.crs is None or crs == scene.crs
    if crs is not None and not same:
        geometry = _reproject(geometry, crs, scene)
    inverse = ~scene.transform
    pixels = shapely.make_valid(shapely.transform(geometry, lambda xy: _affine(inverse, xy)))
    left, top, right, bottom = shapely.bounds(pixels)
    # A bound that misses a pixel's edge by rounding alone must not pull in a whole row of pixels.
    col, row = max(int(np.floor(left + 1e-6)), 0), max(int(np.floor(top + 1e-6)), 0)
    col_stop = min(int(np.ceil(right - 1e-6)), scene.width)
    row_stop = min(int(np.ceil(bottom - 1e-6)), scene.height)
    if (
        col >= col_stop
        or row >= row_stop
        or not shapely.intersects(pixels, shapely.box(0, 0, scene.width, scene.height))
    ):
        raise _outside(
            scene,
            f"in its pixels: columns {left:.0f} to {right:.0f} of {scene.width}, "
            f"rows {top:.0f} to {bottom:.0f} of {scene.height}",
        )
    axis_aligned = scene.transform.b == scene.transform.d == 0
    plain = whole_box and same and axis_aligned
    return Area(Window(row, col, row_stop - row, col_stop - col), None if plain else shapely.to_wkb(pixels))


def _outside(scene: Scene, where: str) -> WindowError:
    return WindowError(
        f"Cannot use the area of interest: it lies outside '{scene.path}' ({where}). "
        "Pass an area that overlaps the scene, and --aoi-crs if its coordinates are in another CRS."
    )


def _affine(transform: Affine, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = xy[:, 0], xy[:, 1]
    return np.column_stack(
        [transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f]
    )


def _reproject(geometry: Any, source: CRS, scene: Scene) -> Any:
    """An area in the CRS of the scene.

    If it reaches far beyond the scene, only the part near it: a transverse Mercator, for example, maps the other side of
    the Earth onto this one, or is undefined there.
    """
    reach = _reach(scene, source)
    moved = None
    if reach is None or _is_around(geometry, reach, source):
        moved = _moved(geometry, _longest_side(geometry) / 100, source, scene.crs)
    if moved is None and reach is not None:
        near = _part_near(scene, geometry, reach, source)
        moved = _moved(near, _longest_side(reach) / 100, source, scene.crs)
    if moved is None:
        raise WindowError(
            f"Cannot use the area of interest: its coordinates do not exist in the CRS of '{scene.path}'. "
            "Pass an area near the scene, and --aoi-crs with the CRS that its coordinates are in."
        )
    return moved


def _moved(geometry: Any, step: float, source: CRS, target: CRS) -> Any | None:
    """A geometry in another CRS, with a vertex at every step along its edges; None if it has no coordinates there."""
    # A straight edge in one CRS is a curve in another. Of a polygon that crosses itself, segmentize would drop parts.
    fine = shapely.segmentize(shapely.make_valid(geometry), step)
    try:
        moved = shapely.transform(fine, lambda xy: _transformed(xy, source, target))
    except (RasterioError, GDALError):
        return None
    return moved if np.isfinite(shapely.bounds(moved)).all() else None


def _transformed(xy: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    with rasterio.Env():
        return np.column_stack(transform_coordinates(source, target, xy[:, 0], xy[:, 1]))


def _reach(scene: Scene, crs: CRS) -> Any | None:
    """The bounding box of a scene in another CRS; None if it has none, or crosses the antimeridian."""
    assert scene.transform is not None  # an area was asked for
    # Points inside as well as on the sides: a CRS may be undefined in the middle of a scene of half the Earth.
    along = np.linspace(0, 1, _POINTS_A_SIDE)
    cols, rows = np.meshgrid(along * scene.width, along * scene.height)
    try:
        placed = _affine(scene.transform, np.column_stack([cols.ravel(), rows.ravel()]))
        points = _transformed(placed, scene.crs, crs).reshape(*cols.shape, 2)
    except (RasterioError, GDALError):
        return None
    size = np.ptp(points, axis=(0, 1))
    steps = (np.abs(np.diff(points, axis=axis)) for axis in (0, 1))
    if not np.isfinite(points).all() or any((step > size / 2).any() for step in steps):
        return None
    return shapely.box(*points.min((0, 1)), *points.max((0, 1)))


def _is_around(geometry: Any, reach: Any, crs: CRS) -> bool:
    """Whether an area does not reach far beyond a scene."""
    around = _grown(reach, _FAR)
    return any(shapely.covers(around, box) for box in _turned(shapely.envelope(geometry), crs))


def _part_near(scene: Scene, geometry: Any, reach: Any, crs: CRS) -> Any:
    """The part of an area that may overlap the scene, in the area's CRS."""
    around = _grown(reach, _NEAR)
    pieces = [shapely.intersection(turned, around) for turned in _turned(shapely.make_valid(geometry), crs)]
    near = shapely.union_all(pieces)
    if shapely.area(near) == 0:
        raise _outside(scene, f"in its own CRS it has {_extent(geometry)}, and the scene {_extent(reach)}")
    return near


def _turned(geometry: Any, crs: CRS) -> list[Any]:
    """A geometry and, in longitudes, the same shifted by 360 degrees either way."""
    turns = (-360, 360) if crs.is_geographic else ()
    return [geometry, *(shapely.transform(geometry, partial(np.add, (turn, 0))) for turn in turns)]


def _grown(box: Any, by: float) -> Any:
    """A box with a margin on each side, as a share of its size."""
    west, south, east, north = shapely.bounds(box)
    x, y = by * (east - west), by * (north - south)
    return shapely.box(west - x, south - y, east + x, north + y)


def _longest_side(geometry: Any) -> float:
    west, south, east, north = shapely.bounds(geometry)
    return float(max(east - west, north - south))


def _extent(geometry: Any) -> str:
    west, south, east, north = (f"{side:.8g}" for side in shapely.bounds(geometry))
    return f"x {west} to {east}, y {south} to {north}"
