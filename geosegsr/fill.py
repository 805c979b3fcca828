"""Plausible values for pixels that have none, so that a model sees no cliff at the edge of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


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
    rest = values[valid].mean(dtype=np.float64).astype(values.dtype)
    nearest: NDArray[np.intp] | None = None
    for band, mask in enumerate(valid):
        if mask.all():
            continue
        if not mask.any():
            filled[band] = rest
            continue
        if nearest is None or band == 0 or not np.array_equal(mask, valid[band - 1]):
            nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
        filled[band] = values[band][tuple(nearest)]
    return filled
