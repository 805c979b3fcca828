"""A finished file beside its truth and its input: whether they fit, and their pixels window by window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import ConfigError
from geosegsr.imagery.sources import Floats, Patch
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import imresize_down


def scale_of(result: Scene, source: Scene | None) -> int:
    """The scale of a result, by its tags or else by the size of its input.

    Raises:
        ConfigError: There is neither.
    """
    tagged = result.metadata.tags.get("GEOSEGSR_SCALE", "")
    if tagged.isdigit():
        return int(tagged)
    if source is not None:
        return max(1, round(result.height / source.height))
    raise ConfigError(
        f"Cannot evaluate '{result.path}': its tags do not say its scale. Pass --scale, or --lr with its input."
    )


def refuse_other_grid(result: Scene, truth: Scene, source: Scene | None, scale: int) -> None:
    """Refuse files whose pixels do not lie on each other.

    Raises:
        ConfigError: They differ in size, bands or place.
    """
    if (result.height, result.width, result.count) != (truth.height, truth.width, truth.count):
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{truth.path}': the first has {result.count} bands of "
            f"{result.width} x {result.height} pixels, the second {truth.count} of {truth.width} x {truth.height}. "
            "Cut or warp the truth to the grid of the result."
        )
    apart = _pixels_apart(result, truth)
    if apart > 0.1:
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{truth.path}': they lie {apart:.2f} pixels apart. "
            "Warp the truth to the grid of the result."
        )
    if source is not None and (source.height * scale, source.width * scale) != (result.height, result.width):
        raise ConfigError(
            f"Cannot evaluate '{result.path}' at scale {scale}: its input '{source.path}' has "
            f"{source.width} x {source.height} pixels. Pass the raster that was enlarged, or another --scale."
        )


def _pixels_apart(result: Scene, truth: Scene) -> float:
    """The largest distance between the same corner of both, along rows or columns; 0 where a place is not known."""
    if result.transform is None or truth.transform is None:
        return 0.0
    corners = [(0, 0), (truth.width, truth.height)]
    moved = [(~truth.transform) @ (result.transform @ corner) for corner in corners]
    return float(np.abs(np.subtract(moved, corners)).max())


def read_patch(
    result: Scene, truth: Scene, source: Scene | None, part: Window, scale: int, radiometry: Radiometry
) -> tuple[Patch, Floats]:
    """Input and truth in a window of hr pixels, and the result there, all in the model's range."""
    sr, sr_valid = _read(result, part, radiometry)
    hr, hr_valid = _read(truth, part, radiometry)
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
