"""Pictures of input, bicubic interpolation and result, all stretched alike, as JPEG or PNG inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geosegsr.appraisal.pair import Pair
from geosegsr.raster.picture import data_uri, encoded
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

_LONGEST = 1600
"""Pixels along the longer side of the whole scene."""
_QUALITY = 82
_SHARP = 250_000
"""Pixels of an input that is small enough for a picture without loss."""
_EMPTY = 238
"""Grey of pixels without data."""
# Viridis at five places; S. van der Walt and N. Smith, 2015, CC0.
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


@dataclass(frozen=True)
class View:
    """One piece of ground as three pictures, each as a data URI."""

    title: str
    about: str
    width: int
    """Pixels of the result's picture."""
    height: int
    source: str
    """One pixel of the input a pixel, where that is not larger than the result's picture."""
    bicubic: str
    result: str
    whole: bool = False


def overview(pair: Pair) -> View:
    """The whole scene, reduced where it is large."""
    shrink = max(1.0, max(pair.height, pair.width) * pair.scale / _LONGEST)
    shape = _shape(pair, pair.scale / shrink)
    native = _shape(pair, min(1.0, pair.scale / shrink))
    whole = pair.over(Window(0, 0, pair.height, pair.width))
    about = "at its own resolution" if shrink == 1 else f"reduced {shrink:.1f} times"
    return View(
        "Whole scene", f"{whole.width} x {whole.height} pixels, {about}", shape[1], shape[0],
        (_png if native[0] * native[1] <= _SHARP else _jpeg)(
            _shown(pair, *pair.source.read_resampled(pair.window, native, Resampling.average))
        ),
        _jpeg(_shown(pair, *pair.source.read_resampled(pair.window, shape, Resampling.cubic))),
        _jpeg(_shown(pair, *pair.result.read_resampled(whole, shape, Resampling.average))),
        whole=True,
    )  # fmt: skip


def place_view(pair: Pair, window: Window, title: str) -> View:
    """A place at the result's own resolution."""
    part = pair.read(window)
    fine = pair.over(window)
    values, valid = pair.source.read(window.shifted(pair.window.row, pair.window.col))
    made, made_valid = pair.result.read(fine)
    about = f"{fine.width} x {fine.height} pixels from column {fine.col}, row {fine.row}"
    source = _shown(pair, values, valid)
    if part is None:
        bicubic = source
    else:
        inner = part.inner.scaled(pair.scale)
        bicubic = _stretched(part.bicubic[list(pair.shown)][:, *inner.slices])
        bicubic[:, ~part.fine(np.asarray(valid.all(0)))] = _EMPTY
    return View(
        title,
        about,
        fine.width,
        fine.height,
        _png(source),
        _jpeg(bicubic),
        _jpeg(_shown(pair, made, made_valid)),
    )


@dataclass(frozen=True)
class Map:
    """One number for each pixel, in colours."""

    picture: str
    """A data URI."""
    low: float
    """Value of the lowest colour."""
    high: float
    """Of the highest."""


def uncertainty_map(scene: Scene) -> Map:
    """The uncertainty in DN, mean of the bands."""
    shrink = max(1.0, max(scene.height, scene.width) / (_LONGEST // 2))
    shape = max(1, round(scene.height / shrink)), max(1, round(scene.width / shrink))
    values, valid = scene.read_resampled(Window(0, 0, scene.height, scene.width), shape)
    known = np.asarray(valid.all(0), bool)
    return coloured(np.where(known, values.mean(0), 0.0), known)


def coloured(plane: NDArray[Any], known: NDArray[np.bool_] | None = None) -> Map:
    """A map of numbers, from the 2nd to the 98th percentile. Shapes (h, w); unknown pixels are grey."""
    known = np.ones(plane.shape, bool) if known is None else known
    low, high = (float(end) for end in np.percentile(plane[known], (2, 98))) if known.any() else (0.0, 1.0)
    share = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
    at = np.linspace(0, 1, len(_VIRIDIS))
    colours = np.stack([np.interp(share, at, channel) for channel in zip(*_VIRIDIS, strict=True)])
    return Map(_png(np.where(known, colours, _EMPTY).astype(np.uint8)), low, high)


def shown_picture(pair: Pair, values: NDArray[Any], valid: NDArray[np.bool_]) -> str:
    """Pixels of the input, shape (bands, h, w), as a picture; a data URI."""
    return _jpeg(_shown(pair, values, valid))


def _shape(pair: Pair, zoom: float) -> tuple[int, int]:
    return max(1, round(pair.height * zoom)), max(1, round(pair.width * zoom))


def _shown(pair: Pair, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    low, high = pair.span
    bands = list(pair.shown)
    picture = _stretched((values[bands] - low[bands]) / (high - low)[bands])
    picture[:, ~valid.all(0)] = _EMPTY
    return picture


def _stretched(shares: NDArray[Any]) -> NDArray[np.uint8]:
    """Shares of the span as bytes, shape (3, h, w); one band is shown in grey."""
    bytes_ = np.rint(np.clip(np.nan_to_num(shares), 0, 1) * 255).astype(np.uint8)
    return np.repeat(bytes_, 3, axis=0) if len(bytes_) == 1 else bytes_


def _jpeg(picture: NDArray[np.uint8]) -> str:
    return data_uri(encoded(picture, "jpeg", quality=_QUALITY, subsampling=0), "jpeg")


def _png(picture: NDArray[np.uint8]) -> str:
    return data_uri(encoded(picture, optimize=True))


def views(pair: Pair, places: Sequence[tuple[str, Window]]) -> list[View]:
    """The whole scene and the places."""
    return [overview(pair), *(place_view(pair, window, title) for title, window in places)]
