"""The levels of hr become those of lr from place to place, and ground that has changed is left out.

Two sensors, or two dates, differ in haze, sun and season. A network that sees such pairs learns how the colours of one
place changed. Here each band of hr gets the mean and the contrast that lr has around each pixel, so that only detail is
left to be learnt.

    hr' = gain * (hr - mean of hr around) + mean of lr around
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

Floats: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

_MEAN = 4.0
"""Standard deviation of the neighbourhood that the mean is of, in lr pixels."""
_CONTRAST = 12.0
"""The same for the contrast, which needs more pixels."""
_ROUNDS = 3
"""Levels are found again without the ground that has changed by the levels of the round before."""
_OUTLIER = 4.0
"""Robust standard deviations from which on a difference is a change."""
_LEAST_ALIKE = 0.3
"""Correlation of the detail around a pixel below which the ground has changed, or is not registered."""
_MOST_GAIN = 4.0
"""Largest factor between the contrast of a place and that of the whole pair."""


@dataclass(frozen=True)
class Levels:
    """What turns a band of hr into the levels of lr, on the grid of lr."""

    gain: Floats
    """Shape (C, h, w)."""
    mean_hr: Floats
    """Mean of hr around each pixel, as lr would see it; shape (C, h, w)."""
    mean_lr: Floats
    """Mean of lr around each pixel; shape (C, h, w)."""
    same: Mask
    """Ground that both show alike; shape (h, w)."""

    def apply(self, hr: Floats, scale: int) -> Floats:
        """The levels of lr for hr.

        Args:
            hr: Shape (C, scale*h, scale*w).
            scale: hr pixels per lr pixel.
        """
        gain, mean_hr, mean_lr = (_enlarged(a, scale) for a in (self.gain, self.mean_hr, self.mean_lr))
        return (gain * (hr - mean_hr) + mean_lr).astype(np.float32)


def local_levels(lr: Floats, small: Floats, valid: Mask) -> Levels:
    """Find the levels of a pair, and the ground that has changed.

    Args:
        lr: Shape (C, h, w).
        small: hr as lr would see it, on the grid of lr; same shape.
        valid: Pixels with data on both sides; shape (h, w).
    """
    same = valid
    for round_ in range(_ROUNDS):
        gain, mean_hr, mean_lr = _levels(lr, small, same)
        if round_ == _ROUNDS - 1:
            break
        rest = lr - (gain * (small - mean_hr) + mean_lr)
        same = valid & ~_changed(rest, valid) & (_alikeness(lr, small, same) > _LEAST_ALIKE)
        if same.sum() < 0.02 * max(
            valid.sum(), 1
        ):  # nothing alike: the caller refuses the pair by its correlation
            same = valid
    return Levels(gain, mean_hr, mean_lr, same)


def _levels(lr: Floats, small: Floats, seen: Mask) -> tuple[Floats, Floats, Floats]:
    """Gain, and means of hr and lr around each pixel, from the pixels that are seen."""
    mean_hr, mean_lr = (_around(a, seen, _MEAN) for a in (small, lr))
    spread = [np.sqrt(_around((a - m) ** 2, seen, _CONTRAST)) for a, m in ((small, mean_hr), (lr, mean_lr))]
    whole = [
        np.sqrt(((a - m)[:, seen] ** 2).mean(axis=1))[:, None, None]
        for a, m in ((small, mean_hr), (lr, mean_lr))
    ]
    typical = np.where(whole[0] > 0, whole[1] / np.maximum(whole[0], 1e-12), 1.0)
    # Ground without detail says nothing of the contrast: the pair's own decides there.
    weak = 0.2 * whole[0]
    gain = np.sqrt((spread[1] ** 2 + (weak * typical) ** 2) / np.maximum(spread[0] ** 2 + weak**2, 1e-24))
    gain = np.clip(gain, typical / _MOST_GAIN, typical * _MOST_GAIN)
    return gain.astype(np.float32), mean_hr, mean_lr


def _changed(rest: NDArray[np.floating[Any]], valid: Mask) -> Mask:
    """Where the difference that is left is far from usual in some band, a pixel around it included."""
    smooth = gaussian_filter(rest, (0, 1, 1))
    spread = 1.4826 * np.median(np.abs(smooth[:, valid]), axis=1)[:, None, None]
    far = (np.abs(smooth) > _OUTLIER * np.maximum(spread, 1e-6)).any(axis=0)
    return np.asarray(binary_dilation(far & valid, iterations=1))


def _alikeness(lr: Floats, small: Floats, seen: Mask) -> Floats:
    """Correlation of the detail of both around each pixel, mean over the bands; shape (h, w)."""
    a, b = (image - _around(image, seen, _MEAN) for image in (lr, small))
    ab, aa, bb = (_around(x, seen, 2 * _MEAN) for x in (a * b, a * a, b * b))
    return np.asarray(
        (ab.sum(axis=0)) / np.maximum(np.sqrt(aa.sum(axis=0) * bb.sum(axis=0)), 1e-12), np.float32
    )


def _around(image: Floats, seen: Mask, sigma: float) -> Floats:
    """Gaussian mean of the pixels that are seen; far from any of them, that of all; shape as `image`."""
    weights = gaussian_filter(seen.astype(np.float32), sigma, mode="nearest") + 1e-6
    whole = image[:, seen].mean(axis=1)[:, None, None] if seen.any() else 0.0
    sums = gaussian_filter(
        np.where(seen, image - whole, 0).astype(np.float32), (0, sigma, sigma), mode="nearest"
    )
    return np.asarray(sums / weights + whole, np.float32)


def _enlarged(image: Floats, scale: int) -> Floats:
    """Smooth values of lr pixels at the middles of hr pixels."""
    return np.asarray(zoom(image, (1, scale, scale), order=1, mode="nearest", grid_mode=True), np.float32)
