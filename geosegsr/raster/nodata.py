"""Pixels without data: recognised, filled so that a model sees no step, and marked again."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray


def fill_invalid(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Give each invalid pixel the value of the nearest valid pixel of its band.

    A band without one valid pixel gets the mean of all valid pixels of the other bands.

    Args:
        values: Any real dtype, shape (bands, h, w).
        valid: Same shape; at least one pixel is True.

    Returns:
        `values` itself where everything is valid, else a filled copy of the same shape and dtype. Valid
        pixels are unchanged.
    """
    if valid.all():
        return values
    filled = values.copy()
    nearest: NDArray[np.intp] | None = None
    for band, mask in enumerate(valid):
        if mask.all():
            continue
        if not mask.any():
            filled[band] = _mean(values[valid])
            continue
        if nearest is None or band == 0 or not np.array_equal(mask, valid[band - 1]):
            nearest = scipy.ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
        filled[band] = values[band][tuple(nearest)]
    return filled


def _mean(values: NDArray[Any]) -> Any:
    """The mean in the values' dtype; at the ends of 64 bits float64 would lie outside it."""
    mean = values.mean(dtype=np.float64)
    if values.dtype.kind == "f":
        return mean
    return min(max(int(mean), int(values.min())), int(values.max()))


def avoid_nodata(values: NDArray[Any], nodata: float) -> None:
    """Nudge valid pixels that equal nodata by the smallest step, in place, so that they stay valid."""
    if np.isnan(nodata):
        return
    marker = nodata_marker(nodata, values.dtype)
    hits = values == marker
    if not hits.any():
        return
    if values.dtype.kind == "f":
        values[hits] = np.nextafter(marker, values.dtype.type(0 if marker else 1))
    else:
        at_top = marker == np.iinfo(values.dtype).max
        values[hits] = marker - 1 if at_top else marker + 1


def is_invalid(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Pixels that are NaN, infinite or nodata; same shape as `values`."""
    invalid = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    if nodata is not None and not np.isnan(nodata):
        invalid |= values == nodata_marker(nodata, values.dtype)
    return invalid


def nodata_marker(nodata: float, dtype: np.dtype[Any]) -> Any:
    """A nodata value as a pixel of that dtype; integers keep all 64 bits."""
    return np.array(nodata if dtype.kind == "f" else int(nodata), dtype=dtype)[()]
