"""Strips of rows small enough for a core's cache, so that several steps over them read memory once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

_PIXELS = 1 << 16


def strips(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Arrays of one shape, any number of axes, cut alike: views of whole rows of one band at a time."""
    shape = arrays[0].shape
    if len(shape) > 2:
        for planes in zip(*arrays, strict=True):
            yield from strips(*planes)
        return
    if not shape:
        yield arrays
        return
    rows = max(1, _PIXELS // max(1, *shape[1:], 1))
    for start in range(0, shape[0], rows):
        yield tuple(array[start : start + rows] for array in arrays)
