"""No data that a raster does not declare: one value in all bands, along its border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.raster.contract import Raster

_LEAST_SHARE = 0.01
"""Of a place, for the whole to be worth reading, and of the whole."""
_LEAST_SCENE = 16
"""Pixels along a side: in a smaller scene a single dark pixel is more than that share."""
_MOST_SAMPLED = 1 << 28  # pixels
_WHOLLY = 0.95
_MOST_INSIDE = 0.05
"""Of the pixels with the value, the share that may lie apart from the border."""
_MARKS = (0.0, -1.0, -9999.0, -32768.0, -32767.0, -99999.0)
"""What marks missing data by custom, beside the ends of the data type."""


@dataclass(frozen=True)
class Collar:
    """A region along the border that looks like no data."""

    value: float
    """In all bands, DN."""
    share: float
    """Of all pixels, in a decimated sample."""

    def describe(self) -> str:
        """For messages."""
        return f"{self.share:.0%} of the pixels are {self.value:g} in all bands, along the border"


def find_collar(raster: Raster, patches: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]]) -> Collar | None:
    """The region without data of a raster that declares none; None if it declares nodata, is tiny, or has no such region.

    The value must be an end of the data type, or a customary mark. Values are searched at the places in `patches`, and
    only where one is suspicious the whole scene is read, decimated.

    Args:
        raster: Where the sample comes from.
        patches: Values and validity at some places, those along the border among them, shape (bands, h, w).
    """
    if raster.nodata is not None or min(raster.height, raster.width) < _LEAST_SCENE:
        return None
    if not all(valid.all() for _, valid in patches):
        return None
    for value in _marks(raster.dtype):
        if any(np.mean(_equal(values, value)) >= _LEAST_SHARE for values, _ in patches):
            share = _share(raster, patches, value)
            if share >= _LEAST_SHARE:
                return Collar(value, share)
    return None


def _share(raster: Raster, patches: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]], value: float) -> float:
    """The share of the scene that is a collar; of an enormous scene, whose sample could take minutes, that of the places."""
    if raster.height * raster.width <= _MOST_SAMPLED:
        return _share_along_border(_equal(raster.sample()[0], value))
    shares = [float(np.mean(_equal(values, value))) for values, _ in patches]
    return float(np.mean(shares)) if max(shares) > _WHOLLY and min(shares) < 1 - _WHOLLY else 0.0


def _marks(dtype: np.dtype[Any]) -> list[float]:
    if dtype.kind == "f":
        return [*_MARKS, float(np.finfo(dtype).min), float(np.finfo(dtype).max)]
    info = np.iinfo(dtype)
    return [
        mark
        for mark in dict.fromkeys((*_MARKS, float(info.min), float(info.max)))
        if info.min <= mark <= info.max
    ]


def _equal(values: NDArray[Any], value: float) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = np.all(values == values.dtype.type(value), axis=0)
    return equal


def _share_along_border(marked: NDArray[np.bool_]) -> float:
    """The share of the pixels that are marked and connected to the border; 0 if it is small, many others are marked, or all are."""
    if marked.all() or np.mean(marked) < _LEAST_SHARE:
        return 0.0
    regions, _ = scipy.ndimage.label(marked)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    touching = np.isin(regions, np.unique(edge[edge > 0]))
    if np.count_nonzero(marked & ~touching) > _MOST_INSIDE * np.count_nonzero(marked):
        return 0.0
    return float(np.mean(touching))
