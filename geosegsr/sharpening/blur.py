"""How the pixels of a coarse band see the grid of a sharper one, estimated from the scene.

Both are images of the same ground. The right blur is the one after which a mix of the sharper bands resembles the
coarse band best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.sensor.consistency import Sampling, degraded

Floats: TypeAlias = NDArray[np.float32]
TYPICAL_MTF = 0.35
"""Taken where a scene does not show it: the middle of what Sentinel-2's bands show."""
_CANDIDATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_TAIL = 4
"""Standard deviations at which a Gaussian is cut."""
_FINE_DETAIL = 5
"""Coarse pixels along a side of the mean that is subtracted before bands are compared."""
_EDGE = 4
"""Coarse pixels at the edge of a sample that are not compared: they see beyond it."""
_LEAST_PIXELS = 400


@dataclass(frozen=True)
class Sample:
    """A part of a scene where the sharper bands and the coarse ones are compared."""

    coarse: Floats
    """DN, shape (bands, h, w), no NaN; sides are multiples of the ratio."""
    guide: Floats
    """DN of the same ground, shape (guide bands, ratio * h, ratio * w), no NaN."""
    usable: NDArray[np.bool_]
    """Coarse pixels that hold data in all bands, and are not saturated; shape (h, w)."""


def mean_mtf(ratio: int) -> float:
    """Response of a plain mean over a coarse pixel at the coarse Nyquist frequency: the most that a blur can have."""
    return 1 / (ratio * math.sin(math.pi / (2 * ratio)))


@lru_cache(maxsize=64)
def sampling_of_mtf(ratio: int, mtf: float, half: bool = False) -> Sampling:
    """A Gaussian blur and the mean over a coarse pixel.

    The mean lets a constant pass at every phase, so that no pattern of the coarse grid arises.

    Args:
        ratio: Fine pixels per coarse pixel, along each side.
        mtf: Response of both together at the coarse Nyquist frequency, above 0; what the mean alone has is the most.
        half: Whether the coarse pixel lies half a fine pixel before its fine pixels, as in Landsat, where the centre of a
            30 m pixel is that of a panchromatic one.
    """
    frequency = 0.5 / ratio
    sigma = math.sqrt(-2 * math.log(min(mtf / mean_mtf(ratio), 0.999))) / (2 * math.pi * frequency)
    radius = math.ceil(_TAIL * sigma)
    gaussian = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    pixel = np.convolve(np.ones(ratio), [0.5, 0.5]) if half else np.ones(ratio)
    weights = np.convolve(gaussian, pixel)
    before = radius + half  # fine pixels that come before those of the coarse pixel
    reach = -(-before // ratio)
    weights = np.pad(
        weights / weights.sum(), (reach * ratio - before, (reach + 1) * ratio + before - len(weights))
    )
    return Sampling(ratio, tuple(weights.tolist()))


def estimate_mtf(samples: Sequence[Sample], ratio: int, half: bool = False) -> float:
    """Response at the coarse Nyquist frequency of the blur between a guide and coarse bands.

    Bands that the guide explains well count most: the mean is one of logarithms.

    Args:
        samples: Parts of the scene.
        ratio: Fine pixels per coarse pixel, along each side.
        half: As in `sampling_of_mtf`.

    Returns:
        In steps of 0.01, at most `mean_mtf`; `TYPICAL_MTF` where the samples hold too little.
    """
    if sum(int(sample.usable.sum()) for sample in samples) < _LEAST_PIXELS:
        return TYPICAL_MTF
    left = np.array([_unexplained(samples, sampling_of_mtf(ratio, mtf, half)) for mtf in _CANDIDATES])
    most = mean_mtf(ratio)
    if _unexplained(samples, sampling_of_mtf(ratio, most, half)) < left.min():
        return round(most, 2)
    best = int(np.clip(left.argmin(), 1, len(left) - 2))
    before, here, after = left[best - 1 : best + 2]
    bend = before - 2 * here + after
    if not math.isfinite(bend) or bend <= 0:
        return TYPICAL_MTF
    step = float(np.clip(0.5 * (before - after) / bend, -1, 1)) * (_CANDIDATES[1] - _CANDIDATES[0])
    return round(_CANDIDATES[best] + step, 2)


def _unexplained(samples: Sequence[Sample], sampling: Sampling) -> float:
    """Mean logarithm of the share of the coarse bands' fine detail that no mix of the blurred guide explains."""
    guides, coarse = len(samples[0].guide), len(samples[0].coarse)
    products = np.zeros((guides + coarse, guides + coarse))
    for sample in samples:
        seen = np.stack([degraded(band, sampling) for band in sample.guide])
        detail = np.stack([_fine_detail(band) for band in (*seen, *sample.coarse)])
        alike = scipy.ndimage.minimum_filter(sample.usable, size=_FINE_DETAIL, mode="constant", cval=False)
        alike[:_EDGE], alike[-_EDGE:], alike[:, :_EDGE], alike[:, -_EDGE:] = False, False, False, False
        values = detail[:, alike].astype(np.float64)
        products += values @ values.T
    own, shared, mixed = products[guides:, guides:], products[:guides, guides:], products[:guides, :guides]
    mixed = mixed + 1e-9 * max(float(np.trace(mixed)), 1e-30) * np.eye(guides)
    explained = np.einsum("gk,gk->k", shared, np.linalg.solve(mixed, shared))
    total = np.maximum(own.diagonal(), 1e-30)
    return float(np.log(np.maximum(1 - explained / total, 1e-6)).mean())


def _fine_detail(band: Floats) -> Floats:
    smooth: Floats = scipy.ndimage.uniform_filter(band, _FINE_DETAIL)
    return band - smooth
