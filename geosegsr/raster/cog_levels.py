"""Which overviews a COG has, and which of them can be made inside the blocks of a result. Integers only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

import numpy as np

from geosegsr.raster.cog_options import overviews_are_lossless
from geosegsr.raster.window import Window

TILE_OPTIONS = {
    "BLOCKSIZE", "COMPRESS", "LEVEL", "PREDICTOR", "QUALITY", "MAX_Z_ERROR", "JXL_ALPHA_DISTANCE", "JXL_DISTANCE",
    "JXL_EFFORT", "JXL_LOSSLESS", "OVERVIEW_COMPRESS", "OVERVIEW_PREDICTOR", "OVERVIEW_QUALITY", "OVERVIEW_RESAMPLING",
    "MAX_Z_ERROR_OVERVIEW",
}  # fmt: skip
"""Creation options that decide the bytes of a tile."""
# Those that decide how a file is put together, and leave its tiles alone.
_FILE_OPTIONS = {"BIGTIFF", "GEOTIFF_VERSION", "NUM_THREADS", "OVERVIEWS", "STATISTICS"}
_CELL = 2048  # side of a cell, in output pixels, unless tiles are larger
_RESAMPLINGS = {"AVERAGE", "NEAREST"}
"""A pixel of such an overview shows the four pixels under it, and nothing around them."""


def overview_shapes(height: int, width: int, options: Mapping[str, str]) -> list[tuple[int, int]]:
    """(rows, columns) of the overviews that GDAL's COG driver makes of a raster, from the largest."""
    shapes: list[tuple[int, int]] = []
    if options["OVERVIEWS"].upper() == "NONE":
        return shapes
    while max(height, width) > int(options["BLOCKSIZE"]):
        height, width = max(1, height // 2), max(1, width // 2)
        shapes.append((height, width))
    return shapes


def halvings(number: int) -> int:
    """How often a number can be halved without remainder."""
    return (number & -number).bit_length() - 1


def cut_unit(
    shape: tuple[int, int], scale: int, side: int, dtype: np.dtype[Any], options: Mapping[str, str]
) -> int:
    """The sides that blocks should be multiples of, so that a COG can be made of their tiles.

    Args:
        shape: Rows and columns of the result.
        scale: Output pixels per input pixel; blocks are cut between input pixels.
        side: The largest side of a block, in output pixels.
        dtype: Of every band.
        options: All creation options.

    Returns:
        Output pixels; 0 where the tiles of blocks of that side are of no use.
    """
    if not are_tiles_alike(options, dtype):
        return 0
    height, width = shape
    most = _most_inside(height, width, options)
    for inside in range(most, 0 if overview_shapes(height, width, options) else -1, -1):
        unit = lcm(scale, int(options["BLOCKSIZE"]) << inside)
        if unit <= side:
            return unit
    return 0


def cells_of(shape: tuple[int, int], options: Mapping[str, str]) -> list[Window]:
    """A result cut at multiples of its tiles, doubled for each overview inside: row by row, whatever its blocks are."""
    height, width = shape
    if max(shape) <= _CELL:
        return [Window(0, 0, height, width)]
    inside, tile = _most_inside(height, width, options), int(options["BLOCKSIZE"])
    while inside > 0 and tile << inside > _CELL:
        inside -= 1
    side = tile << inside if overview_shapes(height, width, options) else max(tile, _CELL // tile * tile)
    return [
        Window(row, col, min(side, height - row), min(side, width - col))
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]


def levels_inside(
    shape: tuple[int, int],
    blocks: Sequence[Window],
    dtype: np.dtype[Any],
    options: Mapping[str, str],
    *,
    has_mask: bool,
) -> int | None:
    """How many overviews blocks can hold so that all overviews show what GDAL's own would.

    GDAL computes each overview from the one before: those that are not in the blocks, from the smallest that is. Where a side
    is odd, a pixel of the next overview shows parts of three pixels, beyond the edge of a block as well. With a mask, and by
    nearest neighbour, GDAL computes all of them from the pixels; with a mask, files of blocks hold the others for that
    purpose.

    Args:
        shape: Rows and columns of the result.
        blocks: Output windows that cover it.
        dtype: Of every band.
        options: All creation options.
        has_mask: Whether the result has a mask that is no band.

    Returns:
        None where a COG cannot be made of the blocks' tiles.
    """
    height, width = shape
    wanted = len(overview_shapes(height, width, options))
    even = wanted <= min(halvings(height), halvings(width))
    # Where sides are odd, the mask that GDAL shrinks depends on how its source is tiled, too.
    if not are_tiles_alike(options, dtype) or (has_mask and not even):
        return None
    if len(blocks) == 1:
        return wanted
    cuts = {edge for block in blocks for edge in (block.row, block.col) if edge}
    tile = int(options["BLOCKSIZE"])
    if any(cut % tile for cut in cuts):
        return None
    inside = min(_most_inside(height, width, options), *(halvings(cut // tile) for cut in cuts))
    nearest = options["OVERVIEW_RESAMPLING"].upper() == "NEAREST"
    fits = all(halvings(cut) >= wanted for cut in cuts) if has_mask else even or not nearest
    can_go_on = inside > 0 and overviews_are_lossless(options) and fits
    return inside if inside == wanted or can_go_on else None


def one_more(
    shape: tuple[int, int], blocks: Sequence[Window], levels: int, options: Mapping[str, str]
) -> int:
    """1 where blocks without a mask can hold one more overview than `levels_inside` says, in parts of tiles; else 0.

    The smaller ones are made from it instead of from one that is four times as large.
    """
    edges = {edge for block in blocks for edge in (block.row, block.col)} | set(shape)
    wanted = len(overview_shapes(*shape, options))
    averaged = options["OVERVIEW_RESAMPLING"].upper() == "AVERAGE"
    return int(levels < wanted and averaged and all(halvings(edge) > levels for edge in edges if edge))


def _most_inside(height: int, width: int, options: Mapping[str, str]) -> int:
    return min(len(overview_shapes(height, width, options)), halvings(height), halvings(width))


def are_tiles_alike(options: Mapping[str, str], dtype: np.dtype[Any]) -> bool:
    """Whether a tile and its overviews are the same bytes in a file of one block as in the whole result."""
    if not options.keys() <= TILE_OPTIONS | _FILE_OPTIONS:
        return False
    if options["STATISTICS"].upper() == "YES":  # GDAL computes them of all pixels
        return False
    # VRTs spell 64-bit nodata in another way than rasterio sets it.
    return options["OVERVIEW_RESAMPLING"].upper() in _RESAMPLINGS and not (
        dtype.kind in "iu" and dtype.itemsize == 8
    )
