"""The hr side of a real pair on the fine grid of lr: the grid of lr pixels divided into scale x scale."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject

from geosegsr.errors import BandError, ConfigError, SceneError
from geosegsr.imagery.ground import footprint
from geosegsr.models.segsr.config import SCALES
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.scene import Scene

_ANY_CRS = "EPSG:3857"  # a stand-in if neither side has a CRS: both are in pixels then
_TOLERANCE = 0.05  # of the ratio of pixel sizes, which pairs of two sensors meet only roughly


def refuse_misfits(hr: Scene, lr: Scene, scale: int) -> None:
    """Refuse two sides whose bands or pixel sizes do not fit each other.

    Raises:
        BandError: They differ in their number of bands.
        ConfigError: The pixel sizes do not fit the scale, or lr and hr are swapped.
    """
    if hr.count != lr.count:
        raise BandError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': they have {hr.count} and {lr.count} bands. "
            "Pass --bands with bands that both have."
        )
    ratio = _pixel_ratio(hr, lr)
    if ratio >= scale * (1 - _TOLERANCE):
        return  # finer hr pixels than the scale needs are aggregated
    if abs(ratio * scale - 1) <= 0.05:
        raise ConfigError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': the pixels of the first are {scale} "
            "times as large as those of the second. lr and hr look swapped: exchange --hr and --lr."
        )
    smaller = [number for number in SCALES if ratio >= number * (1 - _TOLERANCE)]
    needed = f"Pass --scale {smaller[-1]}, or finer hr images" if smaller else "Pass finer hr images"
    raise ConfigError(
        f"Cannot use the pair '{hr.path}' and '{lr.path}' at scale {scale}: lr pixels are only {ratio:.3g} "
        f"times as large as hr pixels. {needed}."
    )


def resampled(
    hr: Scene, lr: Scene, scale: int, shift: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The hr side on the fine grid of lr, moved by `shift` lr pixels (rows, cols).

    Returns:
        Values (C, H, W) and validity (H, W).

    Raises:
        SceneError: It cannot be read or resampled.
    """
    placed = (
        hr.transform is not None and lr.transform is not None and hr.crs is not None and lr.crs is not None
    )
    source = hr.transform if placed else _unplaced(hr, lr, scale)
    grid = (lr.transform if placed else Affine.identity()) @ Affine.scale(1 / scale)
    grid = grid @ Affine.translation(-shift[1] * scale, -shift[0] * scale)
    values, valid = hr.read(hr.window)
    mask = valid.all(axis=0)
    shape = (lr.height * scale, lr.width * scale)
    filled = fill_invalid(values, valid) if valid.any() else values
    out = np.zeros((hr.count, *shape), np.float32)
    out_mask = np.zeros(shape, np.float32)
    places: dict[str, Any] = {
        "src_transform": source,
        "dst_transform": grid,
        "src_crs": hr.crs if placed else _ANY_CRS,
        "dst_crs": lr.crs if placed else _ANY_CRS,
        "tolerance": 0,
    }
    try:
        with rasterio.Env(), _quiet():
            reproject(filled.astype(np.float32), out, resampling=Resampling.cubic, **places)
            reproject(mask.astype(np.float32), out_mask, resampling=Resampling.bilinear, **places)
    except RasterioError as error:
        raise SceneError(f"Cannot resample '{hr.path}' onto the grid of '{lr.path}': {error}.") from error
    inside = np.greater(out_mask, 0.999)
    whole = fill_invalid(out, np.broadcast_to(inside, out.shape)) if inside.any() else out
    return whole, np.asarray(inside, bool)


def _pixel_ratio(hr: Scene, lr: Scene) -> float:
    """Ratio of the sides of an lr pixel and an hr pixel on the ground; NaN if it cannot be told."""
    if hr.crs is not None and hr.crs == lr.crs and hr.transform is not None and lr.transform is not None:
        return math.sqrt(abs(lr.transform.determinant / hr.transform.determinant))
    fine, coarse = footprint(hr), footprint(lr)
    if fine is not None and coarse is not None:
        pixels = fine.area / (hr.height * hr.width), coarse.area / (lr.height * lr.width)
        return math.sqrt(pixels[1] / pixels[0])
    rows, cols = hr.height / lr.height, hr.width / lr.width
    return rows if abs(rows / cols - 1) < 0.02 else math.nan


def _unplaced(hr: Scene, lr: Scene, scale: int) -> Affine:
    """From hr pixels to lr pixels where only the sizes tell; a few pixels more or less at the end do not count."""
    ratio = _pixel_ratio(hr, lr)
    return Affine.scale(1 / (scale if abs(ratio / scale - 1) <= _TOLERANCE else ratio))


def _quiet() -> Any:
    catcher = warnings.catch_warnings()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    return catcher
