"""Whether an image holds detail that fits its pixels, or was enlarged from coarser ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geosegsr.models.interpolation import Interpolator
from geosegsr.sensor.degradation import imresize_down

LEAST_DETAIL = 0.4
"""`detail_share` below which an image has little to teach. Images that are sharp at their size have 0.65 and more, enlarged
ones at most 0.35."""


def detail_share(hr: NDArray[np.float32], scale: int) -> float:
    """How much detail an image holds beyond that of its reduction, as a share of what the next coarser octaves hold.

    Detail falls slowly from octave to octave: half of that of the octave after the next counts too, because in very soft
    images both finer ones hold nothing but rounding.

    Args:
        hr: Shape (C, H, W), sides multiples of `scale`; without nodata.
        scale: hr pixels per pixel of the reduction.

    Returns:
        Ratio of standard deviations; 1 where no octave holds any, so that even ground is not taken for soft.
    """
    small = imresize_down(hr, scale)
    small = small[:, : small.shape[1] // 2 * 2, : small.shape[2] // 2 * 2]
    if min(small.shape[1:]) < 8:
        return 1.0
    finest, coarser = _beyond(hr, scale), _beyond(small, 2)
    again = imresize_down(small, 2)
    again = again[:, : again.shape[1] // 2 * 2, : again.shape[2] // 2 * 2]
    if min(again.shape[1:]) >= 16:
        coarser = max(coarser, 0.5 * _beyond(again, 2))
    return finest / coarser if coarser > 1e-4 else 1.0


def _beyond(image: NDArray[np.float32], scale: int) -> float:
    """Standard deviation of what bicubic enlargement of an image's reduction lacks, without the border."""
    again = Interpolator("bicubic", scale)(imresize_down(image, scale)[None])[0]
    inner = (slice(None), slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    return float((image[inner] - again[inner]).std())
