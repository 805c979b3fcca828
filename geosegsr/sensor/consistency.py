"""Making a result agree with its input: seen by the sensor again, it gives the pixels it was made of.

A sensor's blur and sampling D turn hr pixels x into lr pixels y, each a weighted mean of hr pixels around it. Of all
images with D x' = y the one nearest to x is

    x' = x + U (y - D x)        U = D' (D D')^-1

so one step does what iterative back-projection approaches, and a second one changes nothing. D D' and its inverse are
filters on the lr grid. The inverse fades by a constant factor a pixel, so it is cut where it no longer matters, and
what a pixel becomes depends on pixels within a known margin only. Beyond its ends a side is mirrored, the end pixel
included, as in training.

    y - D x    at an lr pixel    reads hr pixels within `reach` lr pixels of it
    U r        at an hr pixel    reads r within `reach` and the inverse's radius, in lr pixels

Source:
    M. Irani and S. Peleg, "Improving resolution by image registration", CVGIP 53 (1991), section 3, for the iteration.
    With U in place of their kernel its limit is the orthogonal projection onto the images that agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas
from geosegsr.models.contract import FloatArray

# lr pixels along a side that one product computes: small, because its matrix is mostly zeros. Pieces lie at multiples
# of it and all have one shape, so equal pixels come out equal to the last bit wherever an array begins.
_PIECE = 16
_NEGLIGIBLE = 1e-5  # of the inverse's largest weight
_WINDOW = 5  # lr pixels along a side, over which a residual's level and variance are taken
_LEAST_PASSED = 0.002  # of D D' at a frequency, along one side
_PERIOD = 1024  # lr pixels over which the inverse is computed: it must not meet itself


@dataclass(frozen=True)
class Sampling:
    """How a sensor makes an lr pixel of hr pixels, along rows and columns alike."""

    scale: int
    """hr pixels per lr pixel, along each side."""
    weights: tuple[float, ...]
    """Of the hr pixels that an lr pixel sees, (2 * reach + 1) * scale of them with its own in the middle; symmetric,
    with sum 1."""

    @property
    def reach(self) -> int:
        """How far an lr pixel sees beyond its own ground, in lr pixels."""
        return (len(self.weights) // self.scale - 1) // 2

    @property
    def margin(self) -> int:
        """How far around a pixel its projection reads results, in lr pixels."""
        return 2 * self.reach + len(_inverse(self)) // 2 + _WINDOW // 2


@lru_cache(maxsize=64)
def _inverse(sampling: Sampling) -> NDArray[np.float64]:
    """(D D')^-1 along one side: a symmetric filter of odd length on lr pixels."""
    weights, reach = np.asarray(sampling.weights), sampling.reach
    both = np.zeros(_PERIOD)
    for lag in range(-2 * reach, 2 * reach + 1):
        start = abs(lag) * sampling.scale
        both[lag] = weights[: len(weights) - start] @ weights[start:]
    # What the sensor hardly passes is left as it is: giving it back would need more than the numbers hold.
    passed = np.maximum(np.fft.fft(both).real, _LEAST_PASSED)
    whole = np.fft.ifft(1 / passed).real
    radius = int(np.flatnonzero(np.abs(whole[: _PERIOD // 2]) > _NEGLIGIBLE * whole[0])[-1])
    cut = np.concatenate([whole[radius:0:-1], whole[: radius + 1]])
    cut *= whole.sum() / cut.sum()  # so that it stays exact where a residual is constant
    return cut


@dataclass(frozen=True)
class _Operator:
    """A linear map along one side, as the matrix of a piece."""

    matrix: NDArray[Any]
    """Shape (_PIECE * made, (_PIECE + 2 * halo) * read)."""
    read: int
    """Input pixels per lr pixel."""
    made: int
    """Output pixels per lr pixel."""
    halo: int
    """lr pixels read on either side of a piece."""


@lru_cache(maxsize=64)
def _operators(sampling: Sampling, dtype: str) -> tuple[_Operator, _Operator, _Operator]:
    """D, (D D')^-1 and D'."""
    scale, reach = sampling.scale, sampling.reach
    inverse = _inverse(sampling)
    radius = len(inverse) // 2
    down = _banded(np.asarray(sampling.weights), _PIECE, scale)
    # Column p of D' holds the weights of lr pixel p - reach, which begin 2 * reach lr pixels before the piece.
    up = _banded(np.asarray(sampling.weights), _PIECE + 2 * reach, scale).T
    up = up[2 * reach * scale : (2 * reach + _PIECE) * scale]
    return (
        _Operator(down.astype(dtype), scale, 1, reach),
        _Operator(_banded(inverse, _PIECE, 1).astype(dtype), 1, 1, radius),
        _Operator(np.ascontiguousarray(up, dtype), 1, scale, reach),
    )


def _banded(weights: NDArray[np.float64], rows: int, step: int) -> NDArray[np.float64]:
    """The same weights in every row, each `step` columns on."""
    matrix = np.zeros((rows, (rows - 1) * step + len(weights)))
    for row in range(rows):
        matrix[row, row * step : row * step + len(weights)] = weights
    return matrix


def _applied(plane: NDArray[Any], operator: _Operator, corner: tuple[int, int]) -> FloatArray:
    """One band through an operator along both sides, piece by piece.

    Args:
        plane: Shape (h * read, w * read); any real dtype.
        operator: What to apply.
        corner: Row and column of the plane's first lr pixel, from where pieces are counted.

    Returns:
        The operator's dtype, shape (h * made, w * made).
    """
    sides = [side // operator.read * operator.made for side in plane.shape]
    out = np.empty(sides, operator.matrix.dtype)
    for rows, strip in _strips(plane, operator, corner):
        out[rows] = strip
    return out


def _strips(
    plane: NDArray[Any], operator: _Operator, corner: tuple[int, int]
) -> Iterator[tuple[slice, FloatArray]]:
    """As `_applied`, a row of pieces at a time, which fits into a core's cache.

    Yields:
        The rows of the result, and their pixels: valid until the next ones are asked for.
    """
    read, made, halo = operator.read, operator.made, operator.halo
    h, w = plane.shape[0] // read, plane.shape[1] // read
    top, left = corner[0] % _PIECE, corner[1] % _PIECE
    down, across = (-(-(start + side) // _PIECE) for start, side in ((top, h), (left, w)))
    side, long, new = _PIECE * read, (_PIECE + 2 * halo) * read, _PIECE * made
    columns = across - (-2 * halo // _PIECE)  # that hold the pieces and their halos
    wide = np.zeros((long, columns * side), operator.matrix.dtype)
    tall = np.empty((new, columns * side), operator.matrix.dtype)
    out = np.empty((new, across * new), operator.matrix.dtype)
    read_down, made_down = _pieces(wide, columns, side, side), _pieces(tall, columns, side, side)
    read_across, made_across = _pieces(tall, across, long, side), out.reshape(new, across, new).swapaxes(0, 1)
    first = -(top + halo) * read
    for row in range(down):
        _fill(wide, plane, first + row * side, -(left + halo) * read, (2 * halo + across * _PIECE) * read)
        np.matmul(operator.matrix, read_down, out=made_down)
        np.matmul(read_across, operator.matrix.T, out=made_across)
        begin, end = max(row * new, top * made), min((row + 1) * new, (top + h) * made)
        rows = slice(begin - top * made, end - top * made)
        yield rows, out[begin - row * new : end - row * new, left * made : (left + w) * made]


def _fill(wide: FloatArray, plane: NDArray[Any], row: int, col: int, width: int) -> None:
    """Fill the first `width` columns with a plane's pixels from (row, col) on; beyond its ends it is mirrored."""
    rows = _mirrored(row, len(wide), plane.shape[0])
    inside = slice(-col, -col + plane.shape[1])
    wide[:, inside] = plane[row : row + len(wide)] if _rises(rows) else plane[rows]
    for start, stop in ((0, inside.start), (inside.stop, width)):
        wide[:, start:stop] = wide[:, inside][:, _mirrored(col + start, stop - start, plane.shape[1])]


def _mirrored(start: int, count: int, side: int) -> NDArray[np.intp]:
    """Where the positions start, start + 1, ... lie on a side that is mirrored beyond its ends, the end pixel included."""
    turned = np.arange(start, start + count) % (2 * side)
    return np.minimum(turned, 2 * side - 1 - turned)


def _rises(positions: NDArray[np.intp]) -> bool:
    return bool(positions[-1] - positions[0] == len(positions) - 1)


def _pieces(strip: NDArray[Any], count: int, width: int, step: int) -> NDArray[Any]:
    """Pieces of a strip, `step` columns apart, as a view; shape (count, rows, width)."""
    row, item = strip.strides
    return as_strided(strip, (count, strip.shape[0], width), (step * item, row, item))


def degraded(
    hr: NDArray[Any],
    sampling: Sampling,
    corner: tuple[int, int] = (0, 0),
    dtype: np.dtype[np.floating[Any]] | None = None,
) -> FloatArray:
    """What the sensor would see.

    Args:
        hr: One band, shape (h * scale, w * scale), no NaN; any real dtype.
        sampling: The sensor's.
        corner: Row and column of the first lr pixel; decides nothing but the last bits.
        dtype: What to compute in; that of `hr` by default, which must then be a float.

    Returns:
        That dtype, shape (h, w).
    """
    with single_threaded_blas():
        return _applied(hr, _operators(sampling, (dtype or hr.dtype).str)[0], corner)


def least_image(lr: FloatArray, sampling: Sampling, corner: tuple[int, int] = (0, 0)) -> FloatArray:
    """The least of all images that the sensor sees as `lr`: U y.

    Args:
        lr: One band, shape (h, w), no NaN.
        sampling: The sensor's.
        corner: Row and column of the first lr pixel; decides nothing but the last bits.

    Returns:
        Same dtype, shape (h * scale, w * scale).
    """
    _, inverse, up = _operators(sampling, lr.dtype.str)
    with single_threaded_blas():
        return _applied(_applied(lr, inverse, corner), up, corner)


def unseen(hr: FloatArray, sampling: Sampling, corner: tuple[int, int] = (0, 0)) -> FloatArray:
    """The part of an image that the sensor does not see: x - U D x. Arguments and result as in `degraded`, on the hr grid."""
    return hr - least_image(degraded(hr, sampling, corner), sampling, corner)


def project(
    hr: FloatArray,
    lr: FloatArray,
    known: NDArray[np.bool_],
    sampling: Sampling,
    corner: tuple[int, int] = (0, 0),
    quantum: float = 0.0,
) -> None:
    """Move a band, in place, to the nearest one that agrees with its input.

    Args:
        hr: One band, shape (h * scale, w * scale), no NaN.
        lr: The input in the same units, shape (h, w), any values where it is not known.
        known: Same shape; where agreement is asked for. Elsewhere nothing is: hr there changes only as far as its
            neighbours ask for it.
        sampling: The sensor's.
        corner: Row and column of the first lr pixel; decides nothing but the last bits.
        quantum: Step of the numbers that the input was rounded to, 0 for none: what rounding explains of a difference is
            left, up to half a step.
    """
    if not known.any():
        return
    down, inverse, up = _operators(sampling, hr.dtype.str)
    with single_threaded_blas():
        residual = _applied(hr, down, corner)
        np.subtract(lr, residual, out=residual, casting="same_kind")
        if not known.all():
            residual[~known] = 0
        if quantum:
            residual = _beyond_rounding(residual, known, quantum)
        for rows, strip in _strips(_applied(residual, inverse, corner), up, corner):
            hr[rows] += strip


def quantum_of(dtype: np.dtype[Any]) -> float:
    """Step, in DN, of what a file of this dtype holds: 1 for whole numbers, 0 for others; for `project`."""
    return 1.0 if dtype.kind in "iu" else 0.0


def _beyond_rounding(residual: FloatArray, known: NDArray[np.bool_], quantum: float) -> FloatArray:
    """The part of a residual that rounding of the input does not explain.

    Around each pixel a residual is a level, detail, and the noise of rounding, whose variance is known: a twelfth of a
    squared step. The level stays, and of the deviations from it the share that detail has in their variance.

    Source:
        J.-S. Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE PAMI 2 (1980), section II.
    """
    noise = quantum**2 / 12
    everywhere = known.all()
    count = _WINDOW**2 if everywhere else np.maximum(_around(known.astype(residual.dtype)), 1)
    level = _around(residual)
    level /= count
    share = _around(np.square(residual))
    share /= count
    share -= np.square(level)  # the variance
    np.maximum(share, noise, out=share)
    np.divide(noise, share, out=share)
    np.subtract(1, share, out=share)
    kept: FloatArray = residual - level
    kept *= share
    kept += level
    np.clip(kept, residual - quantum / 2, residual + quantum / 2, out=kept)
    if not everywhere:
        kept[~known] = 0
    return kept


def _around(plane: FloatArray) -> FloatArray:
    """Sums over squares of _WINDOW pixels, each added up in the same order wherever the array begins."""
    height, width = plane.shape
    padded = np.pad(plane, _WINDOW // 2, mode="symmetric")
    tall = padded[:height] + padded[1 : height + 1]
    for i in range(2, _WINDOW):
        tall += padded[i : i + height]
    wide: FloatArray = tall[:, :width] + tall[:, 1 : width + 1]
    for i in range(2, _WINDOW):
        wide += tall[:, i : i + width]
    return wide


def footprint(ground: NDArray[np.bool_], sampling: Sampling) -> NDArray[np.bool_]:
    """Those lr pixels all of whose hr pixels lie on the ground; beyond the array all is ground. Shape (h, w)."""
    if sampling.reach == 0 or ground.all():
        return ground
    side = 2 * sampling.reach + 1
    eroded: NDArray[np.bool_] = scipy.ndimage.minimum_filter(ground, size=side, mode="constant", cval=True)
    return eroded


@dataclass(frozen=True)
class Residual:
    """How far a band, seen by the sensor again, is from its input; in DN, over the lr pixels that can be compared."""

    count: int = 0
    """lr pixels all of whose footprint is valid."""
    total: float = 0.0
    """Sum of differences, result less input."""
    squares: float = 0.0
    """Sum of their squares."""
    largest: float = 0.0
    """The largest difference, without its sign."""

    @classmethod
    def of(cls, seen: FloatArray, lr: NDArray[Any], compared: NDArray[np.bool_]) -> Residual:
        """Of one block; all arrays of shape (h, w)."""
        off = seen[compared].astype(np.float64) - lr[compared]
        if not off.size:
            return cls()
        return cls(off.size, float(off.sum()), float(off @ off), float(np.abs(off).max()))

    @classmethod
    def of_all(cls, parts: Iterable[Residual]) -> Residual:
        """Of several blocks together."""
        parts = list(parts)
        return cls(
            sum(part.count for part in parts),
            math.fsum(part.total for part in parts),
            math.fsum(part.squares for part in parts),
            max((part.largest for part in parts), default=0.0),
        )

    def to_dict(self) -> dict[str, float | int]:
        """Mean (a shift of the band), RMS and largest difference, in DN, and how many lr pixels were compared."""
        count = max(self.count, 1)
        return {
            "mean": self.total / count,
            "rms": math.sqrt(self.squares / count),
            "max": self.largest,
            "pixels": self.count,
        }
