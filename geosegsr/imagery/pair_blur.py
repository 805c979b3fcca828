"""The blur between the two sides of a pair: after it hr looks as lr does."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from geosegsr.sensor.degradation import Degradation

_CANDIDATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_FINE_DETAIL = 5  # lr pixels along a side of the mean that is subtracted before both are compared
_LEAST_EXPLAINED = 0.1  # share of lr's detail that hr must explain, or the blur is unknown
_LEAST_PIXELS = 400


def pair_degradation(
    lr: NDArray[np.float32], hr: NDArray[np.float32], same: NDArray[np.bool_], scale: int
) -> Degradation | None:
    """Measure the blur from hr to lr.

    Args:
        lr: Shape (C, h, w).
        hr: Registered, with the levels of lr or its own; shape (C, scale*h, scale*w).
        same: lr pixels that show the same ground; shape (h, w).
        scale: hr pixels per lr pixel.

    Returns:
        A Gaussian whose response at the lr Nyquist frequency is known to 0.01; None if the pair does not show it.
    """
    if same.sum() < _LEAST_PIXELS:
        return None
    left = np.array([_unexplained(lr, hr, same, scale, mtf) for mtf in _CANDIDATES])
    best = int(left.argmin())
    if left[best] > math.log(1 - _LEAST_EXPLAINED):
        return None
    mtf = _CANDIDATES[best]
    if 0 < best < len(left) - 1:
        mtf = _vertex(_CANDIDATES[best - 1 : best + 2], left[best - 1 : best + 2])
    mtf = round(mtf, 2)
    return Degradation(kernel=("mtf",), mtf=(mtf, mtf))


def _unexplained(
    lr: NDArray[np.float32], hr: NDArray[np.float32], same: NDArray[np.bool_], scale: int, mtf: float
) -> float:
    """Mean logarithm of the share of each band's fine detail in lr that blurred hr does not explain."""
    seen = Degradation(kernel=("mtf",), mtf=(mtf, mtf)).sample(hr, scale, np.random.default_rng(0))
    shares = []
    for a, b in zip(lr, seen, strict=True):
        fine = [(image - uniform_filter(image, _FINE_DETAIL))[same].astype(np.float64) for image in (a, b)]
        own, other, shared = (float(x @ y) for x, y in ((fine[0], fine[0]), (fine[1], fine[1]), fine))
        explained = shared**2 / max(own * other, 1e-30) if shared > 0 else 0.0
        shares.append(math.log(max(1 - explained, 1e-6)))
    return float(np.mean(shares))


def _vertex(at: tuple[float, ...], values: NDArray[np.float64]) -> float:
    """Where the parabola through three points is lowest."""
    a, b, _ = np.polyfit(at, values, 2)
    return float(np.clip(-b / (2 * a), at[0], at[2])) if a > 0 else at[1]
