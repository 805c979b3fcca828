"""What a guide says at each fine pixel about the detail of coarse bands: the planes of a linear regression.

    guide band                     at the pixel and, for a ratio of 2, at its eight neighbours
    guide band x guide band        where reflectance does not follow linearly
    detail of a guide band x coarse band      contrast that follows the local brightness
    coarse band, smoothed          what the coarse band says itself where the guide says nothing

All are arithmetic of single pixels, so a pixel's value does not depend on where an array begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
_NEIGHBOURS_UP_TO = 2
"""The largest ratio at which the neighbours of a fine pixel say more than the pixel itself."""
_MOST = 3.0
"""Standard deviations from the mean beyond which products no longer grow: a white roof is no rule for fields."""


@dataclass(frozen=True)
class Scaling:
    """Level and contrast of each band, which bring all features to one size."""

    guide_mean: tuple[float, ...]
    guide_deviation: tuple[float, ...]
    coarse_mean: tuple[float, ...]
    coarse_deviation: tuple[float, ...]


def feature_count(ratio: int, guides: int, bands: int) -> int:
    """Number of planes for so many bands; the last ones, as many as there are coarse bands, need no guide."""
    return len(_offsets(ratio)) * guides + guides * (guides + 1) // 2 + guides * bands + bands


def planes(
    scaling: Scaling,
    ratio: int,
    guide: Floats,
    detail: Floats,
    base: Floats,
    smooth: Floats,
    rows: slice,
) -> Iterator[Floats]:
    """The features over some rows, one plane at a time.

    Args:
        scaling: Of the scene.
        ratio: Fine pixels per coarse pixel, along each side.
        guide: DN, shape (guide bands, h, w).
        detail: The part of the guide that its mean over coarse pixels does not hold, same shape.
        base: The coarse bands on the guide's grid without its help, shape (bands, h, w).
        smooth: `smoothed` of these, same shape.
        rows: Which rows.

    Yields:
        Planes of shape (rows, w), in a fixed order.
    """
    guide_mean, guide_deviation = _columns(scaling.guide_mean, scaling.guide_deviation, guide.dtype)
    coarse_mean, coarse_deviation = _columns(scaling.coarse_mean, scaling.coarse_deviation, guide.dtype)
    height, width = guide.shape[1:]
    above, below = max(rows.start - 1, 0), min(rows.stop + 1, height)
    around = (guide[:, above:below] - guide_mean) / guide_deviation
    inner = slice(rows.start - above, rows.start - above + rows.stop - rows.start)
    padded = np.pad(around, ((0, 0), (rows.start - 1 < 0, rows.stop + 1 > height), (1, 1)), mode="edge")
    own = around[:, inner]
    for band in padded:
        for down, across in _offsets(ratio):
            yield band[1 + down : 1 + down + own.shape[1], 1 + across : 1 + across + width]
    usual = own.clip(-_MOST, _MOST)
    for first in range(len(usual)):
        for second in range(first, len(usual)):
            yield usual[first] * usual[second]
    brightness = ((base[:, rows] - coarse_mean) / coarse_deviation).clip(-_MOST, _MOST)
    for band in detail[:, rows] / guide_deviation:
        for level in brightness:
            yield band * level
    yield from (smooth[:, rows] - coarse_mean) / coarse_deviation


def smoothed(bands: Floats, ratio: int) -> Floats:
    """Bands without what is finer than a coarse pixel, as by linear interpolation; same dtype and shape (bands, h, w)."""
    smooth = np.empty_like(bands)
    for band, out in zip(bands, smooth, strict=True):
        _smooth(_smooth(band, ratio).T, ratio, out.T)
    return smooth


def _smooth(band: Floats, ratio: int, out: Floats | None = None) -> Floats:
    """One band along its rows' axis; added up in one order, wherever the array begins."""
    reach, length = ratio - 1, len(band)
    padded = np.pad(band, [(reach, reach), (0, 0)], mode="edge")
    total = np.zeros_like(band) if out is None else out
    total[...] = 0
    scratch = np.empty_like(total)
    for step in range(2 * reach + 1):
        weight = band.dtype.type((ratio - abs(step - reach)) / ratio**2)
        np.multiply(padded[step : step + length], weight, out=scratch)
        total += scratch
    return total


def _columns(mean: tuple[float, ...], deviation: tuple[float, ...], dtype: Any) -> tuple[Floats, Floats]:
    return np.asarray(mean, dtype)[:, None, None], np.asarray(deviation, dtype)[:, None, None]


def _offsets(ratio: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns from a pixel to those that are looked at."""
    steps = (-1, 0, 1) if ratio <= _NEIGHBOURS_UP_TO else (0,)
    return tuple((down, across) for down in steps for across in steps)
