"""JPEG compression, read from the pixels: quantised DCT coefficients lie on a lattice.

Whoever decodes a JPEG gets blocks of 8 x 8 pixels whose DCT coefficients are multiples of a step, up to rounding:

    not compressed    . .. ...:::||||:::... .. .         coefficients over all blocks
    compressed        .    :    |    :    .              the same, with a step of some DN

The steps of all 64 coefficients follow from one number, the scale of libjpeg's table.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas

Floats = NDArray[np.float64]

LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
    51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
    101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Steps of the 8 x 8 coefficients at a scale of 100 %, row by row: table K.1 of ITU-T T.81."""
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99,
) + (99,) * 32  # fmt: skip
"""The same for colour differences: table K.2."""
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Rows of Y, Cb and Cr over red, green and blue: JFIF's, of BT.601."""

SCALES = tuple(float(200 - 2 * q if q >= 50 else round(5000 / q, 2)) for q in range(99, 19, -1))
"""The scales that are told apart, in percent: those of quality 99 to 20."""
_ROUNDING = 0.35  # DN: what decoding and rounding add to a coefficient usually, and twice as much at worst
_OUTLIERS = 0.02  # share of coefficients that lie anywhere, compressed or not
_ZERO = 1.5  # DN: a coefficient below this may have been quantised to 0
_NEEDED = 20.0  # log-likelihood by which a lattice must explain the coefficients better
_MOST_BLOCKS = 1024
_SAMPLE = 8  # one in so many coefficients, of every kind and place
_LEAST_SAMPLE = 512  # coefficients
_CERTAIN = 5.0  # standard deviations
_TOGETHER = 32  # numbers whose product is far from the ends of float64


@lru_cache(maxsize=1)
def dct_matrix() -> Floats:
    """The orthonormal DCT-II of 8 samples, shape (8, 8)."""
    k, n = np.mgrid[0:8, 0:8]
    weights = np.where(k == 0, math.sqrt(1 / 8), 0.5)
    return np.asarray(weights * np.cos(math.pi * (2 * n + 1) * k / 16))


def steps_of(scale: float) -> Floats:
    """Steps of the 64 luminance coefficients, in DN, at a scale in percent.

    Source:
        `jpeg_add_quant_table` of libjpeg's jcparam.c.
    """
    return np.clip(np.floor((np.asarray(LUMINANCE) * scale + 50) / 100), 1, 255)


def coefficients(planes: NDArray[np.floating[Any]]) -> Floats:
    """DCT coefficients of blocks that are neither constant nor clipped.

    Args:
        planes: Shape (N, h, w), in DN of 0 to 255; row 0 and column 0 begin a block.

    Returns:
        Shape (blocks, 64), at most `_MOST_BLOCKS` blocks, evenly drawn.
    """
    n, height, width = planes.shape
    rows, columns = height // 8, width // 8
    cut = planes[:, : rows * 8, : columns * 8].astype(np.float64)
    blocks = cut.reshape(n, rows, 8, columns, 8).swapaxes(2, 3).reshape(-1, 8, 8)
    low, high = blocks.min((1, 2)), blocks.max((1, 2))
    blocks = blocks[(low > 0.5) & (high < 254.5) & (high > low)]
    blocks = blocks[:: max(-(-len(blocks) // _MOST_BLOCKS), 1)]
    dct = dct_matrix()
    return np.asarray(dct @ blocks @ dct.T).reshape(-1, 64)


def quantisation(planes: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Scale of the quantisation tables that left these pixels.

    Args:
        planes: Shape (N, h, w), in DN of 0 to 255: luminance, or single bands; row 0 and column 0 begin a block.

    Returns:
        The scale in percent, 0 where nothing speaks for compression, and its standard deviation.
    """
    with single_threaded_blas():
        found = coefficients(planes)[:, 1:]  # the first is the mean, which says little
    # A coefficient near 0 says nothing: it may be small without compression too.
    large = np.abs(found) > _ZERO
    values, column = found[large], np.nonzero(large)[1]
    gains = np.full(len(SCALES), -np.inf)
    for number, scale in enumerate(SCALES):
        steps = steps_of(scale)[1:]
        if not _is_hopeless(values[::_SAMPLE], steps[column[::_SAMPLE]]):
            gains[number] = _sum_of_logarithms(_likelihoods(values, steps[column]))
    best = int(gains.argmax())
    if gains[best] < _NEEDED:
        return 0.0, 0.0
    scales = np.asarray(SCALES)
    likely = np.exp(np.clip(gains - gains[best], -50, 0))
    spread = math.sqrt(float(likely @ (scales - scales[best]) ** 2 / likely.sum()))
    return SCALES[best], max(spread, 1.0)


def _likelihoods(values: Floats, steps: Floats) -> Floats:
    """How much better a lattice explains each coefficient than a smooth density does.

    Args:
        values: Coefficients in DN, shape (n,).
        steps: The step of each, in DN.

    Returns:
        Ratios of likelihoods, shape (n,), from _OUTLIERS to some hundreds.
    """
    worst = 2 * _ROUNDING
    off = values / steps
    multiple = np.rint(off)
    off -= multiple
    off *= steps
    np.square(off, out=off)
    off *= -0.5 / worst**2
    wide = np.exp(off, out=off)  # a normal density of the wider deviation, but for its factor
    narrow = np.square(np.square(wide))  # that of half the deviation
    narrow *= 0.8 / _ROUNDING
    narrow += wide * (0.2 / worst)
    narrow *= steps * ((1 - _OUTLIERS) / math.sqrt(2 * math.pi))
    narrow[multiple == 0] = 0
    narrow += _OUTLIERS
    return narrow


def _is_hopeless(values: Floats, steps: Floats) -> bool:
    """Whether a sample of the coefficients speaks so clearly against a lattice that all of them will."""
    if len(values) < _LEAST_SAMPLE:
        return False
    logarithms = np.log(_likelihoods(values, steps))
    return bool(logarithms.sum() + _CERTAIN * math.sqrt(logarithms @ logarithms) < 0)


def _sum_of_logarithms(ratios: Floats) -> float:
    """Of numbers from _OUTLIERS to some hundreds, many of which can be multiplied before the logarithm is taken."""
    whole = len(ratios) // _TOGETHER * _TOGETHER
    products = ratios[:whole].reshape(-1, _TOGETHER).prod(axis=1)
    return float(np.log(products).sum() + np.log(ratios[whole:]).sum())
