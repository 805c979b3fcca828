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
    """How much detail an image holds beyond that of its reduction, as a share of what the next coarser octave holds.

    Args:
        hr: Shape (C, H, W), sides multiples of `scale`; without nodata.
        scale: hr pixels per pixel of the reduction.

    Returns:
        Ratio of standard deviations; 1 where both octaves hold none, so that even ground is not taken for soft.
    """
    small = imresize_down(hr, scale)
    small = small[:, : small.shape[1] // 2 * 2, : small.shape[2] // 2 * 2]
    if min(small.shape[1:]) < 8:
        return 1.0
    finest, next_ = _beyond(hr, scale), _beyond(small, 2)
    return finest / next_ if next_ > 1e-4 else 1.0


def _beyond(image: NDArray[np.float32], scale: int) -> float:
    """Standard deviation of what bicubic enlargement of an image's reduction lacks, without the border."""
    again = Interpolator("bicubic", scale)(imresize_down(image, scale)[None])[0]
    inner = (slice(None), slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    return float((image[inner] - again[inner]).std())
