"""Fading tiles into each other.

A pixel that several tiles cover is their weighted mean. Weights are a product of one ramp down the rows
and one along the columns, so tiles are folded together along one axis first (tiles into a strip) and then
along the other (strips into a block). The mean is updated tile by tile as ``mean += (tile - mean) * w / W``:
where all tiles are equal nothing is added, so equal tiles give exactly their value, without rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import WindowError


def feather_weights(
    size: int, overlap: int, *, fade_in: bool = True, fade_out: bool = True
) -> NDArray[np.float32]:
    """Weight of each pixel along one side of a tile, fading across the overlap with its neighbours.

    A raised cosine sampled at half pixels, so strictly positive: any sum of weights can be divided by. The
    weights of two neighbours add up to 1.

    Args:
        size: Length of the side, in pixels.
        overlap: Pixels shared with each neighbour; 0 <= overlap <= size.
        fade_in: Whether there is a neighbour before; without one the weight stays 1 to the edge.
        fade_out: Whether there is a neighbour behind.

    Returns:
        float32, shape (size,), values in (0, 1].

    Raises:
        WindowError: The overlap is negative or longer than the side.
    """
    if not 0 <= overlap <= size:
        raise WindowError(
            f"Cannot feather {size} pixels over an overlap of {overlap}: it must be 0 to {size}."
        )
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))
    weights = np.ones(size)
    if fade_in:
        weights[:overlap] *= ramp
    if fade_out:
        weights[size - overlap :] *= ramp[::-1]
    return weights.astype(np.float32)


class Fold:
    """A weighted mean along one axis of an array, to which pieces are added from first to last."""

    def __init__(self, mean: NDArray[Any], axis: int) -> None:
        """Start with nothing.

        Args:
            mean: Where the result is built; what no piece covers keeps its value.
            axis: The axis along which pieces lie.
        """
        self.mean = mean
        self._axis = axis
        self._weight = np.zeros(mean.shape[axis], dtype=np.float32)

    def add(self, piece: NDArray[Any], weights: NDArray[np.float32], start: int) -> None:
        """Fold in one more piece.

        Args:
            piece: Same dtype and number of axes as the mean, any length along the axis. What lies where `fresh` says may be
                that part of the mean itself.
            weights: float32, positive, one for each position of the piece along the axis.
            start: Where the piece begins on the mean; it may reach beyond either end.
        """
        first = max(start, 0)
        stop = min(start + len(weights), len(self._weight))
        fresh = self.fresh(first, stop)
        if (
            fresh > first and self.mean.dtype.kind == "f"
        ):  # whole numbers are repeated, and equal in all pieces
            new = weights[first - start : fresh - start]
            share = new / (self._weight[first:fresh] + new)
            target = self._part(self.mean, first, fresh)
            target += (self._part(piece, first - start, fresh - start) - target) * self._along(share)
        if stop > fresh:
            self._part(self.mean, fresh, stop)[...] = self._part(piece, fresh - start, stop - start)
        if stop > first:
            self._weight[first:stop] += weights[first - start : stop - start]

    def fresh(self, start: int, stop: int) -> int:
        """Where, from start to stop, the first position lies that no piece covers yet, as all behind it: pieces come in order."""
        return start + int(np.count_nonzero(self._weight[start:stop]))

    def _part(self, array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        index: list[slice] = [slice(None)] * array.ndim
        index[self._axis] = slice(start, stop)
        return array[tuple(index)]

    def _along(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = [1] * self.mean.ndim
        shape[self._axis] = len(weights)
        return weights.reshape(shape)
