"""Interpolation kernels: weights over the distance from a sample, in samples; float64, any shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation; 0 from a distance of 1."""
    return np.where(np.abs(x) < 1, 1 - np.abs(x), 0)


def keys(x: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    """Cubic convolution; 0 from a distance of 2.

    Args:
        x: Distances from the centre, in samples.
        a: Slope at a distance of 1: -0.5 is exact on parabolas and is MATLAB's imresize; -0.75 is torch's.

    Source:
        R. G. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981),
        equations 4 and 15.
    """
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sinc under a window of three lobes; 0 from a distance of 3."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
