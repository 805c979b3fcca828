"""A picture of a raster for people: a PNG of moderate size, stretched band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from rasterio.enums import Resampling

from geosegsr.errors import JobError, SceneError
from geosegsr.files import check_place, whole_file
from geosegsr.raster.picture import encoded
from geosegsr.raster.scene import Scene

LONGEST = 1024
"""Pixels along the longer side of a preview."""
_ENDS = (1.0, 99.0)
"""Percentiles that become black and white."""
_SENTINEL_2 = ("B4", "B3", "B2", "B8A")
"""Red, green and blue by the names of Earth Engine; other satellites have a B4, too, but no B8A."""
_SIGNATURE = "geosegsr preview"
_KEY = "Software"


def write_preview(scene: Scene, path: Path, longest: int = LONGEST, *, overwrite: bool = False) -> Path:
    """Write a picture of a raster, whole or not at all; one that is up to date is left untouched. See `drawn`.

    Args:
        scene: What to show.
        path: A PNG. A preview that is there is replaced.
        longest: Pixels along its longer side, at most.
        overwrite: Whether another file of that name is replaced.

    Raises:
        JobError: Another file has that name.
        SceneError: It could not be written.
    """
    check_preview_path(path, overwrite=overwrite)
    picture = drawn(scene, longest)
    try:
        if path.exists() and path.read_bytes() == picture:
            return path
        with whole_file(path) as file:
            file.write(picture)
    except OSError as error:
        raise SceneError(
            f"Cannot write the preview '{path}': {error.strerror or error}. Fix the cause, or pass another name."
        ) from error
    return path


def drawn(scene: Scene, longest: int = LONGEST) -> bytes:
    """A PNG of a raster.

    Red, green and blue are shown where they are known, else the first three bands, or the first in grey. Pixels without
    data are transparent.

    Args:
        scene: What to show.
        longest: Pixels along its longer side, at most.

    Raises:
        SceneError: It cannot be read.
    """
    shrink = max(1.0, max(scene.height, scene.width) / longest)
    shape = max(1, round(scene.height / shrink)), max(1, round(scene.width / shrink))
    values, valid = scene.read_resampled(scene.window, shape, Resampling.average)
    bands = list(shown_bands(scene))
    known = np.asarray(valid[bands].all(axis=0), bool)
    planes = [stretched(band, known) for band in values[bands].astype(np.float64)]
    opacity = np.where(known, 255, 0).astype(np.uint8)
    picture = np.stack([*(planes if len(planes) == 3 else planes * 3), opacity])
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, _SIGNATURE)
    return encoded(picture, pnginfo=text, optimize=True)


def check_preview_path(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a preview that cannot be written, or that would replace another file.

    Raises:
        JobError: Another file has that name.
        SceneError: It is no name of a PNG, or there is no folder for it.
    """
    if path.suffix.lower() != ".png":
        raise SceneError(
            f"Cannot write the preview '{path}': a preview is a PNG. Name it '{path.with_suffix('.png')}'."
        )
    check_place(path, "preview")
    if path.exists() and not overwrite and not is_preview(path):
        raise JobError(
            f"Cannot write the preview '{path}': another file has that name. Move it, or pass another name."
        )


def is_preview(path: Path) -> bool:
    """Whether a file is a preview that this module wrote."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return bool(picture.info.get(_KEY) == _SIGNATURE)
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def shown_bands(scene: Scene) -> tuple[int, ...]:
    """Positions of red, green and blue where they are known; else of the first three bands, or of the first."""
    for found, wanted in ((scene.colours, ("red", "green", "blue")), (scene.descriptions, _SENTINEL_2)):
        if {*wanted} <= {*found}:
            return tuple(found.index(name) for name in wanted[:3])
    return (0, 1, 2) if scene.count >= 3 else (0,)


def stretched(band: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A band from black, its 1st percentile, to white, its 99th; unknown pixels are black. Shapes (h, w)."""
    low, high = np.percentile(band[known], _ENDS) if known.any() else (0.0, 1.0)
    shares: NDArray[Any] = np.clip((np.where(known, band, low) - low) / max(high - low, 1e-12), 0, 1)
    grey: NDArray[np.uint8] = np.rint(shares * 255).astype(np.uint8)
    return grey
