"""A window of coarse bands on the grid of a guide.

    detail from the guide, by the fit    +    the coarse bands enlarged    ->    projected: reduced again, it is the input

What a pixel becomes depends on pixels within `margin` only, and on nothing else: any window gives the same values.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.models.contract import FloatArray
from geosegsr.sensor.consistency import least_image, project, quantum_of, unseen
from geosegsr.sharpening.features import planes, smoothed
from geosegsr.sharpening.fit import Fit

Mask: TypeAlias = NDArray[np.bool_]
_FILL = 4
"""Coarse pixels over which the values beside invalid pixels are carried into them."""
_STRIP = 64
"""Rows computed at a time: their planes fit into the processor's cache."""


def margin(fit: Fit) -> int:
    """How far around a pixel its value depends on others, in coarse pixels."""
    # Projection, and the detail of the guide that it projects; neighbours and smoothing; and the filling of invalid pixels.
    return 2 * fit.sampling.margin + 1 + _FILL


def sharpen(
    fit: Fit,
    coarse: NDArray[Any],
    coarse_valid: Mask,
    guide: NDArray[Any],
    guide_valid: Mask,
    corner: tuple[int, int],
    dtype: np.dtype[np.floating[Any]],
) -> FloatArray:
    """Compute a window, its margins included.

    Args:
        fit: Of the scene.
        coarse: DN, any real dtype, shape (bands, h, w).
        coarse_valid: Pixels that hold data, same shape.
        guide: DN, shape (guide bands, ratio * h, ratio * w).
        guide_valid: Pixels that hold data, same shape. Beside others no detail is added.
        corner: Row and column of the window's first coarse pixel in the scene.
        dtype: What is computed in.

    Returns:
        DN, not rounded, of that dtype and shape (bands, ratio * h, ratio * w). Reduced by the fit's sampling they are
        the coarse bands, up to the rounding of these; what stands where a coarse pixel is invalid means nothing.
    """
    ratio, sampling = fit.ratio, fit.sampling
    quantum = quantum_of(coarse.dtype)
    filled = _filled(coarse, coarse_valid, _FILL, fit.scaling.coarse_mean, dtype)
    image = np.stack([least_image(band, sampling, corner) for band in filled])
    if not fit.weights.any():
        return image
    base = image.copy()
    smooth = smoothed(base, ratio)
    sharp = _filled(guide, guide_valid, _FILL * ratio, fit.scaling.guide_mean, dtype)
    detail = np.stack([unseen(band, sampling, corner) for band in sharp])
    weights = fit.weights.astype(dtype)
    for top in range(0, image.shape[1], _STRIP):
        rows = slice(top, min(top + _STRIP, image.shape[1]))
        for number, plane in enumerate(planes(fit.scaling, ratio, sharp, detail, base, smooth, rows)):
            for band in np.flatnonzero(weights[:, number]):
                image[band, rows] += weights[band, number] * plane
    known = np.ones(filled.shape[1:], dtype=bool)
    for band, lr in zip(image, filled, strict=True):
        project(band, lr, known, sampling, corner, quantum)
    return image


def working_bytes(fit: Fit, height: int, width: int, item: int) -> int:
    """About the memory that a window of so many fine pixels takes, its margins included.

    Args:
        fit: Of the scene.
        height: Rows, in fine pixels.
        width: Columns.
        item: Bytes of a number that is computed with.
    """
    around = 2 * margin(fit) * fit.ratio
    planes_held = 3 * len(fit.scaling.guide_mean) + 4 * len(fit.scaling.coarse_mean) + 3
    return (height + around) * (width + around) * planes_held * item


def _filled(
    values: NDArray[Any],
    valid: Mask,
    steps: int,
    levels: tuple[float, ...],
    dtype: np.dtype[np.floating[Any]],
) -> FloatArray:
    """Bands with their invalid pixels filled from the sides, step by step, and beyond that with the scene's level.

    Each step gives the invalid pixels beside filled ones the mean of these. A pixel so depends on those within `steps`
    only, wherever the array begins.
    """
    filled = values.astype(dtype)
    for band, known, level in zip(filled, valid, levels, strict=True):
        if known.all():
            continue
        band[~known] = 0
        if known.any():
            _fill(band, known, steps, level)
        else:
            band[:] = level
    return filled


def _fill(band: FloatArray, known: Mask, steps: int, level: float) -> None:
    """Fill one band in place; its invalid pixels are 0. Only those that a step reaches are computed."""
    distance = scipy.ndimage.distance_transform_cdt(~known, metric="taxicab")
    rows, cols = np.nonzero((distance > 0) & (distance <= steps))
    at = distance[rows, cols]
    padded, counted = np.pad(band, 1), np.pad(known.astype(band.dtype), 1)
    for step in range(1, steps + 1):
        row, col = rows[at == step], cols[at == step]
        padded[row + 1, col + 1] = _beside(padded, row, col) / _beside(counted, row, col)
        counted[row + 1, col + 1] = 1
    band[...] = padded[1:-1, 1:-1]
    band[distance > steps] = level


def _beside(padded: FloatArray, row: NDArray[np.intp], col: NDArray[np.intp]) -> FloatArray:
    """Sum over the four neighbours of each of some pixels; the plane has one row and column more on each side."""
    total: FloatArray = (
        padded[row, col + 1] + padded[row + 2, col + 1] + padded[row + 1, col] + padded[row + 1, col + 2]
    )
    return total
