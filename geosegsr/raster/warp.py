"""A scene on the pixel grid of another: resampled wherever a window is read, between coordinate reference systems too."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import reproject, transform

from geosegsr.errors import SceneError
from geosegsr.raster.gdal import GDALError, gdal_reason
from geosegsr.raster.radiometry import to_dtype
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

_POINTS_A_SIDE = 33
"""A straight side of one grid is a curve on the other."""
_REACH = 2
"""Of the cubic kernel, in the coarser grid's pixels."""
_MOST_PIXELS = 4096 * 4096
"""Of the scene, to read at once; a window of a much coarser grid is read in pieces."""
_PLANE = CRS.from_epsg(3857)
"""Stands for a CRS that neither raster has."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WarpedScene(Scene):
    """A scene on another grid, by cubic convolution; where that grid is coarser, the kernel is as wide as its pixels.

    It covers the part of the other grid that the scene lies on. A pixel is valid where the kernel meets valid
    pixels, and only these count; outside of the scene nothing is valid.
    """

    source: Scene
    """The scene as it is."""
    zoom: tuple[float, float]
    """Pixels of the grid per pixel of the scene, along its rows and along its columns, at the centre.

    GDAL would take it from each window, and windows would differ."""

    @classmethod
    def onto(cls, source: Scene, target: Scene) -> WarpedScene | None:
        """Place a scene on the grid of another; None where they have no ground in common.

        A scene without a CRS is taken to have that of the other.

        Args:
            source: The scene, with a transform.
            target: The raster that has the grid, with a transform.

        Raises:
            SceneError: There is no way from one CRS to the other.
        """
        assert source.transform is not None
        assert target.transform is not None
        crs = target.crs or source.crs
        way = _Way(source.path, source.transform, source.crs or crs, target.transform, crs)
        there = way.moved(source.window)
        if there is not None and source.crs not in (None, crs):
            there = _widened(there, source.window)
        covered = None if there is None else _shared(there, target.window)
        if covered is None:
            return None
        metadata = replace(
            source.metadata,
            height=covered.height,
            width=covered.width,
            crs=crs,
            transform=target.transform @ Affine.translation(covered.col, covered.row),
        )
        own = {field.name: getattr(source, field.name) for field in fields(Scene)}
        placed = cls(**(own | {"metadata": metadata, "overviews": ()}), source=source, zoom=(1.0, 1.0))
        return replace(placed, zoom=placed._zoom())

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Resampled pixels and their validity; see `Scene.read`."""
        source, way = self.source, self._way
        needed = way.moved(window)
        part = None if needed is None else _shared(_widened(needed, window), source.window)
        if part is None:
            shape = (self.count, window.height, window.width)
            return np.zeros(shape, self.dtype), np.zeros(shape, bool)
        if part.height * part.width > _MOST_PIXELS and max(window.height, window.width) > 1:
            return self._read_in_halves(window)
        values, valid = source.read(part)
        working = np.float32 if self.dtype.itemsize <= 2 else np.float64
        holed = np.where(valid, values, np.nan).astype(working)
        warped = np.full((self.count, window.height, window.width), np.nan, working)
        try:
            reproject(
                holed, warped,
                src_transform=way.there @ Affine.translation(part.col, part.row), src_crs=way.other or _PLANE, src_nodata=np.nan,
                dst_transform=way.here @ Affine.translation(window.col, window.row), dst_crs=way.crs or _PLANE,
                dst_nodata=np.nan, resampling=Resampling.cubic, tolerance=0, UNIFIED_SRC_NODATA="NO",
                XSCALE=self.zoom[0], YSCALE=self.zoom[1],
            )  # fmt: skip
        except (RasterioError, CRSError, GDALError) as error:
            raise SceneError(f"Cannot warp '{self.path}': {gdal_reason(error)}.") from error
        known = np.isfinite(warped)
        return to_dtype(np.where(known, warped, 0), self.dtype), known

    @property
    def _way(self) -> _Way:
        """From the grid to the scene."""
        assert self.source.transform is not None
        assert self.transform is not None
        return _Way(self.path, self.transform, self.crs, self.source.transform, self.source.crs or self.crs)

    def _zoom(self) -> tuple[float, float]:
        col, row = self.width / 2, self.height / 2
        cols, rows = self._way(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
        along, down = (np.hypot(axis[1] - axis[0], axis[2] - axis[0]) for axis in (cols, rows))
        return (
            (float(1 / along), float(1 / down))
            if np.isfinite(along + down) and along * down > 0
            else (1.0, 1.0)
        )

    def _read_in_halves(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        axis = 1 if window.height >= window.width else 2
        rows, cols = (window.height // 2, 0) if axis == 1 else (0, window.width // 2)
        first = replace(window, height=rows or window.height, width=cols or window.width)
        rest = Window(window.row + rows, window.col + cols, window.height - rows, window.width - cols)
        values, valid = zip(self.read(first), self.read(rest), strict=True)
        return np.concatenate(values, axis), np.concatenate(valid, axis)

    def sample(self, side: int = 1024) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The scene as it is, decimated: its levels are those of the warped one."""
        return self.source.sample(side)


@dataclass(frozen=True)
class _Way:
    """From the pixels of one raster to those of another."""

    path: str
    """For messages."""
    here: Affine
    crs: Any
    there: Affine
    other: Any

    def __call__(
        self, cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(col, row) of pixel corners; not finite where a point has no place there."""
        x, y = _applied(self.here, cols, rows)
        if self.crs is not None and self.crs != self.other:
            try:
                x, y = (np.asarray(axis) for axis in transform(self.crs, self.other, x, y))
            except (RasterioError, CRSError, GDALError) as error:
                raise SceneError(
                    f"Cannot warp '{self.path}' between {self.crs.to_string()} and {self.other.to_string()}: "
                    f"{gdal_reason(error)}."
                ) from error
        return _applied(~self.there, x, y)

    def moved(self, window: Window) -> Window | None:
        """The pixels that a window covers there; None where no point of it has a place.

        Points inside count, too: a pole is on no outline.
        """
        cols, rows = np.meshgrid(
            np.linspace(window.col, window.col_stop, _POINTS_A_SIDE),
            np.linspace(window.row, window.row_stop, _POINTS_A_SIDE),
        )
        cols, rows = self(cols.ravel(), rows.ravel())
        known = np.isfinite(cols) & np.isfinite(rows)
        if not known.any():
            return None
        top, left = (int(np.floor(axis[known].min())) for axis in (rows, cols))
        bottom, right = (int(np.ceil(axis[known].max())) for axis in (rows, cols))
        return Window(top, left, bottom - top, right - left)


def _applied(t: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def _shared(one: Window, other: Window) -> Window | None:
    """What two windows have in common; None for nothing."""
    both = one.intersection(other)
    return both if both.height > 0 and both.width > 0 else None


def _widened(needed: Window, window: Window) -> Window:
    """With the margin that the kernel reads, and for the curvature of the sides between their points."""
    coarser = max(1.0, needed.height / window.height, needed.width / window.width)
    margin = int(np.ceil((_REACH + 1) * coarser)) + max(needed.height, needed.width) // 100
    return Window(
        needed.row - margin, needed.col - margin, needed.height + 2 * margin, needed.width + 2 * margin
    )
