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
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import least_image, project, quantum_of, unseen
from geosegsr.sharpening.features import planes, smoothed
from geosegsr.sharpening.fit import Fit

Mask: TypeAlias = NDArray[np.bool_]
Pixels: TypeAlias = tuple[NDArray[Any], Mask]
"""Values and validity, shape (bands, h, w)."""
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
    coarse: Pixels,
    guide: Pixels,
    corner: tuple[int, int],
    dtype: np.dtype[np.floating[Any]],
    core: Window | None = None,
) -> FloatArray:
    """Compute a window.

    Args:
        fit: Of the scene.
        coarse: DN of any real dtype and which pixels hold data, shape (bands, h, w) each.
        guide: The same of shape (guide bands, ratio * h, ratio * w). Beside pixels without data no detail is added.
        corner: Row and column of the first coarse pixel in the scene.
        dtype: What is computed in.
        core: The coarse pixels of these arrays that are wanted, all by default. The others are its margins.

    Returns:
        DN of the core, not rounded, of that dtype and shape (bands, ratio * rows, ratio * cols). Reduced by the fit's
        sampling they are the coarse bands, up to the rounding of these; what stands where a coarse pixel is invalid means
        nothing.
    """
    ratio, sampling = fit.ratio, fit.sampling
    height, width = coarse[0].shape[1:]
    core = core or Window(0, 0, height, width)
    # What is not projected onto the core is computed no further. Beside its edges are neighbours and smoothing.
    inner = core.grown(sampling.margin + 1, height, width)
    fine = inner.scaled(ratio).slices
    filled = _filled(*coarse, _FILL, fit.scaling.coarse_mean, dtype)
    image = np.empty((len(filled), inner.height * ratio, inner.width * ratio), dtype)
    for plane, band in zip(image, filled, strict=True):
        plane[...] = least_image(band, sampling, corner)[fine]
    if fit.weights.any():
        _add_detail(fit, image, _filled(*guide, _FILL * ratio, fit.scaling.guide_mean, dtype), corner, fine)
        known = np.ones((inner.height, inner.width), dtype=bool)
        place = (corner[0] + inner.row, corner[1] + inner.col)
        quantum = quantum_of(coarse[0].dtype)
        for band, lr in zip(image, filled[:, *inner.slices], strict=True):
            project(band, lr, known, sampling, place, quantum)
    return image[:, *core.shifted(-inner.row, -inner.col).scaled(ratio).slices]


def _add_detail(
    fit: Fit, image: FloatArray, guide: FloatArray, corner: tuple[int, int], fine: tuple[slice, slice]
) -> None:
    """Add to coarse bands on the fine grid, in place, what the guide says; they are `fine` of its rows and columns."""
    detail = np.empty((len(guide), *image.shape[1:]), image.dtype)
    for plane, band in zip(detail, guide, strict=True):
        plane[...] = unseen(band, fit.sampling, corner)[fine]
    guide, base = guide[:, *fine], image.copy()
    smooth = smoothed(base, fit.ratio)
    weights = fit.weights.astype(image.dtype)
    for top in range(0, image.shape[1], _STRIP):
        rows = slice(top, min(top + _STRIP, image.shape[1]))
        scratch = np.empty_like(image[0, rows])
        for number, plane in enumerate(planes(fit.scaling, fit.ratio, guide, detail, base, smooth, rows)):
            for band in np.flatnonzero(weights[:, number]):
                np.multiply(plane, weights[band, number], out=scratch)
                image[band, rows] += scratch


def working_bytes(fit: Fit, height: int, width: int, item: int) -> int:
    """About the memory that a window of so many fine pixels takes, its margins included.

    Args:
        fit: Of the scene.
        height: Rows, in fine pixels.
        width: Columns.
        item: Bytes of a number that is computed with.
    """
    guides, bands = len(fit.scaling.guide_mean), len(fit.scaling.coarse_mean)
    read, computed = (2 * side * fit.ratio for side in (margin(fit), fit.sampling.margin + 1))
    wide, inner = ((height + around) * (width + around) for around in (read, computed))
    return (wide * (2 * guides + 4) + inner * (guides + 4 * bands + 3)) * item


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
