"""A finished file beside its truth and its input: whether they fit, and their pixels window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import ConfigError
from geosegsr.evaluation.seams import tagged_scale
from geosegsr.imagery.sources import Floats, Patch
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.scene import Scene
from geosegsr.raster.warp import WarpedScene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import imresize_down

_APART = 0.1
"""Of a pixel: pixels that lie further off each other do not show the same ground."""


def scale_of(result: Scene, source: Scene | None) -> int:
    """The scale of a result, by its tags or else by the size of its input.

    Raises:
        ConfigError: There is neither.
    """
    tagged = tagged_scale(result)
    if tagged is not None:
        return tagged
    if source is not None:
        return max(1, round(result.height / source.height))
    raise ConfigError(
        f"Cannot evaluate '{result.path}': its tags do not say its scale. Pass --scale, or --lr with its input."
    )


@dataclass(frozen=True)
class CommonGround:
    """The ground that a result and its truth both cover."""

    window: Window
    """In the result's pixels; its sides and its corner are whole lr pixels."""
    row: int
    """Row of the truth's first pixel, in the result's pixels."""
    col: int
    """Column of it."""

    def in_truth(self, window: Window) -> Window:
        """A window of the result in the truth's pixels."""
        return window.shifted(-self.row, -self.col)


def common_ground(result: Scene, truth: Scene, source: Scene | None, scale: int) -> CommonGround:
    """The ground that two files on one pixel grid have in common.

    Raises:
        ConfigError: Their pixels do not lie on each other, they have no ground in common, or their bands differ.
    """
    said = f"Cannot compare '{result.path}' with '{truth.path}'"
    if result.count != truth.count:
        raise ConfigError(
            f"{said}: the first has {result.count} bands, the second {truth.count}. Pass a truth with the same bands."
        )
    row, col = _offset(result, truth, said)
    top, left = (-(-max(0, start) // scale) * scale for start in (row, col))
    bottom, right = min(result.height, row + truth.height), min(result.width, col + truth.width)
    height, width = (length // scale * scale for length in (bottom - top, right - left))
    if height <= 0 or width <= 0:
        raise _nothing_in_common(said)
    if source is not None and (source.height * scale, source.width * scale) != (result.height, result.width):
        raise ConfigError(
            f"Cannot evaluate '{result.path}' at scale {scale}: its input '{source.path}' has "
            f"{source.width} x {source.height} pixels. Pass the raster that was enlarged, or another --scale."
        )
    return CommonGround(Window(top, left, height, width), row, col)


def warped(truth: Scene, result: Scene) -> tuple[Scene, str]:
    """The truth on the pixel grid of the result, and what was done, in words; "" where it lies on that grid already.

    Raises:
        ConfigError: Not both have a place, or they have no ground in common.
        SceneError: There is no way from one CRS to the other.
    """
    if truth.transform is None or result.transform is None or not _apart(result, truth):
        return truth, ""
    placed = WarpedScene.onto(truth, result)
    if placed is None:
        raise _nothing_in_common(f"Cannot compare '{result.path}' with '{truth.path}'")
    where = "" if truth.crs is None else f"{truth.crs.to_string()}, "
    width, height = truth.resolution or (0.0, 0.0)
    return (
        placed,
        f"hr warped onto the grid of the result by cubic convolution, from {where}pixels of {width:g} x {height:g}",
    )


def _nothing_in_common(said: str) -> ConfigError:
    return ConfigError(f"{said}: they have no ground in common. Pass a truth of the same place.")


def _offset(result: Scene, truth: Scene, said: str) -> tuple[int, int]:
    """Row and column of the truth's first pixel in the result's pixels; 0 where a place is not known."""
    if result.transform is None or truth.transform is None:
        if (result.height, result.width) != (truth.height, truth.width):
            raise ConfigError(
                f"{said}: the first has {result.width} x {result.height} pixels, the second {truth.width} x "
                f"{truth.height}, and not both have a geotransform. Cut or warp the truth to the grid of the result."
            )
        return 0, 0
    if fault := _apart(result, truth):
        raise ConfigError(f"{said}: {fault}. Pass --warp to resample the truth onto the grid of the result.")
    col, row = np.rint((~result.transform) @ (truth.transform @ (0, 0)))
    return int(row), int(col)


def _apart(result: Scene, truth: Scene) -> str:
    """Why the pixels of two rasters with transforms do not lie on each other; "" where they do."""
    assert result.transform is not None
    assert truth.transform is not None
    if result.crs is not None and truth.crs is not None and result.crs != truth.crs:
        return f"the first is in {result.crs.to_string()}, the second in {truth.crs.to_string()}"
    corners = [(0, 0), (truth.width, 0), (0, truth.height), (truth.width, truth.height)]
    moved = [(~result.transform) @ (truth.transform @ corner) for corner in corners]
    places = np.subtract(moved, corners)
    apart = float(np.abs(places - np.rint(places[0])).max())
    return f"their pixels lie up to {apart:.2f} pixels off each other" if apart > _APART else ""


def read_patch(
    files: tuple[Scene, Scene, Scene | None],
    ground: CommonGround,
    part: Window,
    scale: int,
    radiometry: Radiometry,
) -> tuple[Patch, Floats]:
    """Input and truth in a window, and the result there, all in the model's range.

    Args:
        files: Result, truth and, if known, the input.
        ground: What result and truth have in common.
        part: In the result's pixels; on whole lr pixels.
        scale: Of the result.
        radiometry: Of the truth.
    """
    result, truth, source = files
    sr, sr_valid = _read(result, part, radiometry)
    hr, hr_valid = _read(truth, ground.in_truth(part), radiometry)
    valid = sr_valid & hr_valid
    if source is None:
        lr = imresize_down(hr, scale)
    else:
        small = Window(part.row // scale, part.col // scale, part.height // scale, part.width // scale)
        lr, lr_valid = _read(source, small, radiometry)
        valid &= repeat_pixels(lr_valid, scale)
    where = f"'{result.path}' at rows {part.row}-{part.row_stop}, columns {part.col}-{part.col_stop}"
    return Patch(lr, hr, valid, where), sr


def _read(scene: Scene, window: Window, radiometry: Radiometry) -> tuple[Floats, NDArray[np.bool_]]:
    """Values in the model's range, invalid ones filled, shape (C, h, w); and which are valid in all bands, (h, w)."""
    values, valid = scene.read(window)
    filled = fill_invalid(values, valid) if valid.any() else values
    return radiometry.to_model(filled).astype(np.float32), np.asarray(valid.all(axis=0), bool)
