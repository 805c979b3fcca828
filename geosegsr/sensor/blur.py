"""Blur and sampling along one side: every lr pixel is a weighted mean of hr pixels around its centre.

    hr pixels   0   1   2   3 | 4   5   6   7        scale 4
    lr pixels         0       |       1              centre of lr pixel i: 4 * i + 1.5 hr pixels

A kernel is all that tells bicubic, box and a sensor's MTF apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.models.kernels import keys
from geosegsr.sensor.consistency import Sampling

Array: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
KERNELS = ("bicubic", "box", "mtf")
_TAIL = 4
"""Standard deviations at which a Gaussian is cut."""
_LEAST_MTF = 0.001


@dataclass(frozen=True)
class Kernel:
    """Blur and sampling along one side; `Kernel.of` rounds, so that few kernels are ever computed."""

    name: str = "bicubic"
    """One of `KERNELS`."""
    mtf: float = 0.25
    """Response at the lr Nyquist frequency, for "mtf"; between 0 and 1."""
    blur: float = 0.0
    """Standard deviation of a Gaussian blur that comes before, in lr pixels."""

    @classmethod
    def of(cls, name: str, mtf: float, blur: float, widening: float = 1.0) -> Kernel:
        """A kernel with its MTF in steps of 0.001 and its blur in steps of 0.01.

        Args:
            name: One of `KERNELS`.
            mtf: Response at the lr Nyquist frequency, for "mtf".
            blur: Standard deviation in lr pixels.
            widening: Factor on the width of both Gaussians.
        """
        if widening != 1:
            mtf = max(mtf ** (widening**2), _LEAST_MTF)
        own = round(mtf, 3) if name == "mtf" else cls.mtf
        return cls(name, own, round(blur * widening, 2))


PLAIN = Kernel()
"""Antialiased bicubic reduction."""


def sigma_of_mtf(mtf: float, scale: int) -> float:
    """Width of the Gaussian whose response at the lr Nyquist frequency is `mtf`.

    Args:
        mtf: Response at half a cycle per lr pixel, 0 < mtf < 1.
        scale: hr pixels per lr pixel.

    Returns:
        Standard deviation, in hr pixels.

    Source:
        The Fourier transform of a Gaussian, exp(-2 pi^2 sigma^2 f^2), at f = 1 / (2 * scale).
    """
    return 2 * scale / math.pi * math.sqrt(-math.log(mtf) / 2)


def reach_of(kernel: Kernel, scale: int) -> float:
    """How far an lr pixel sees from its centre, in hr pixels."""
    own = {"bicubic": 2.0 * scale, "box": scale / 2}.get(kernel.name)
    if own is None:
        own = _TAIL * sigma_of_mtf(kernel.mtf, scale)
    return own + math.ceil(_TAIL * kernel.blur * scale)


def _weights(kernel: Kernel, scale: int) -> tuple[int, Floats]:
    """Weights of the hr pixels that lr pixel 0 sees, and the position of the first of them."""
    centre, reach = (scale - 1) / 2, reach_of(Kernel(kernel.name, kernel.mtf), scale)
    first = math.floor(centre - reach)
    x = first + np.arange(math.ceil(2 * reach) + 2) - centre
    if kernel.name == "bicubic":
        weights = keys(x / scale)
    elif kernel.name == "box":
        weights = (np.abs(x) <= scale / 2).astype(np.float64)
    else:
        weights = np.where(np.abs(x) <= reach, np.exp(-0.5 * (x / (reach / _TAIL)) ** 2), 0)
    weights = weights / weights.sum()
    if not kernel.blur:
        return first, weights
    radius = math.ceil(_TAIL * kernel.blur * scale)
    gaussian = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (kernel.blur * scale)) ** 2)
    return first - radius, np.convolve(weights, gaussian / gaussian.sum())


@lru_cache(maxsize=64)
def sampling_matrix(
    size: int, scale: int, kernel: str = "bicubic", mtf: float = 0.25, blur: float = 0.0
) -> Array:
    """The weights with which hr pixels of one side make its lr pixels.

    Beyond the ends the side is mirrored, the end pixel included, as imresize does.

    Args:
        size: Length of the side in hr pixels, a multiple of `scale`.
        scale: hr pixels per lr pixel.
        kernel: "bicubic" (antialiased, widened by the scale), "box" or "mtf" (a Gaussian).
        mtf: Response at the lr Nyquist frequency, for "mtf".
        blur: Standard deviation of a Gaussian blur that comes before, in lr pixels.

    Returns:
        float32, shape (size // scale, size); each row sums to 1.
    """
    first, weights = _weights(Kernel(kernel, mtf, blur), scale)
    out = size // scale
    taps = np.arange(out)[:, None] * scale + first + np.arange(len(weights))
    matrix = np.zeros((out, size))
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    np.add.at(matrix, (np.arange(out)[:, None], mirrored[taps % (2 * size)]), weights)
    frozen = matrix.astype(np.float32)
    frozen.flags.writeable = False
    return frozen


@lru_cache(maxsize=512)
def _sparse(size: int, scale: int, kernel: Kernel) -> Any:
    return scipy.sparse.csr_array(sampling_matrix(size, scale, kernel.name, kernel.mtf, kernel.blur))


def sampled(hr: Array, scale: int, down: Kernel, across: Kernel) -> Array:
    """Blurred and sampled along both sides.

    Sparse products: threads that prepare patches must not each wake the processor's every core, as dense
    ones do.

    Args:
        hr: float32, shape (C, H, W); sides are multiples of `scale`.
        scale: hr pixels per lr pixel.
        down: Along columns.
        across: Along rows.

    Returns:
        float32, shape (C, H // scale, W // scale).
    """
    bands, height, width = hr.shape
    tall = np.moveaxis(hr, 1, 0).reshape(height, bands * width)
    tall = _sparse(height, scale, down) @ tall  # (h, C * W)
    wide = np.moveaxis(tall.reshape(-1, bands, width), 2, 0).reshape(width, -1)
    wide = _sparse(width, scale, across) @ wide  # (w, h * C)
    return np.ascontiguousarray(wide.reshape(width // scale, -1, bands).transpose(2, 1, 0))


@lru_cache(maxsize=256)
def sampling_of_kernel(kernel: Kernel, scale: int) -> Sampling:
    """The weights of one lr pixel far from the ends."""
    reach = math.ceil(max(reach_of(kernel, scale) / scale - 0.5, 0))
    side = (2 * reach + 1) * scale
    matrix = sampling_matrix(3 * side, scale, kernel.name, kernel.mtf, kernel.blur)
    seen = matrix[3 * reach + 1].astype(np.float64)[side : 2 * side]
    return Sampling(scale, tuple(seen / seen.sum()))


def margin_of_kernels(kernels: Sequence[Kernel], scale: int) -> int:
    """Context around a patch that its lr pixels depend on, whichever of these kernels makes them.

    Returns:
        hr pixels, a multiple of `scale`.
    """
    furthest = max(math.floor(reach_of(kernel, scale) - (scale - 1) / 2) for kernel in kernels)
    return math.ceil(furthest / scale) * scale
