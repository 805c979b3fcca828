"""One block of output from the pixels around it: fill, scale, model, blend, round, mask. No files, no Dask.

What comes out depends on the scene's pixels, the model and the grid alone, never on which block a pixel
happens to lie in: blocks of any size, computed anywhere in any order, give the same raster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.bands import BandGroup
from geosegsr.errors import Cancelled
from geosegsr.feather import Fold, feather_weights
from geosegsr.fill import fill_invalid
from geosegsr.interpolation import Interpolator, repeat_pixels
from geosegsr.radiometry import Radiometry, avoid_nodata, nodata_marker, to_dtype, working_dtype
from geosegsr.tilecache import TileCache
from geosegsr.upscaler import FloatArray, Upscaler
from geosegsr.windows import Axis, Block, TileGrid, Window, fitted

stop_requested: ContextVar[Callable[[], bool]] = ContextVar("stop_requested", default=lambda: False)
"""Asked, in each thread that renders, before every call of a model; see `check_stop`."""


@dataclass(frozen=True)
class Rendering:
    """All that turns lr pixels into a block of output."""

    grid: TileGrid
    upscaler: Upscaler
    groups: tuple[BandGroup, ...]
    """Which bands go through the model together."""
    radiometry: Radiometry | None
    """The model's range, for all image bands; None for a linear model."""
    dtype: np.dtype[Any]
    """Of input and output."""
    nodata: float | None


@dataclass
class RenderCounts:
    """What rendering a block took."""

    tiles: int = 0
    """Tiles computed, in each band group."""
    empty: int = 0
    """Tiles skipped because nothing in them is wanted."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time in the model and elsewhere."""


def check_stop() -> None:
    """End the work of this thread if its run is to stop.

    Raises:
        Cancelled: It is.
    """
    if stop_requested.get()():
        raise Cancelled("The run was asked to stop.")


def render_block(
    rendering: Rendering,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    cache: TileCache | None = None,
) -> tuple[NDArray[Any], RenderCounts]:
    """Compute a block.

    Args:
        rendering: Grid, model and radiometry.
        block: One of the grid's blocks.
        values: The scene's dtype, shape (bands, h, w): the block's source window.
        valid: Same shape; pixels that hold data.
        wanted: Same shape; valid pixels that belong to the result. The others keep nodata, or the value
            of the input pixel they lie in.
        cache: Where results of tiles are kept for the blocks beside and below; of the same rendering and scene.

    Returns:
        The block in the scene's dtype, shape (bands in output order, scale * rows, scale * cols).
    """
    grid, scale = rendering.grid, rendering.upscaler.scale
    counts = RenderCounts()
    source = grid.source_window(block)
    inner = block.window.shifted(-source.row, -source.col)
    out_bands = output_bands(rendering.groups)
    out = np.empty((len(out_bands), inner.height * scale, inner.width * scale), dtype=rendering.dtype)
    for number, group in enumerate(rendering.groups):
        computed = _render_group(rendering, number, block, values, valid, wanted, counts, cache)
        for position, band in enumerate(group.bands):
            out[out_bands.index(band)] = _finish(
                computed[position], values[band][inner.slices], wanted[band][inner.slices], rendering, scale
            )
    return out, counts


def output_bands(groups: tuple[BandGroup, ...]) -> tuple[int, ...]:
    """Positions, among the scene's image bands, of those that come out."""
    return tuple(sorted(band for group in groups for band in group.bands))


def _render_group(
    rendering: Rendering,
    number: int,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    counts: RenderCounts,
    cache: TileCache | None,
) -> FloatArray:
    """DN of one group's bands over the block, not rounded; (bands, scale * rows, scale * cols)."""
    grid, scale = rendering.grid, rendering.upscaler.scale
    group = rendering.groups[number]
    call = _group_call(rendering, group)
    dtype = working_dtype(rendering.dtype, call.linear)
    source = grid.source_window(block)
    bands = list(group.bands)
    whole = block.window
    mean = np.zeros((len(bands), whole.height * scale, whole.width * scale), dtype=dtype)
    rows = Fold(mean, axis=1)

    def prepare(tile: tuple[int, int]) -> FloatArray:
        crop = (call.read, *grid.tile_window(*tile).shifted(-source.row, -source.col).slices)
        return _prepare(values[crop], valid[crop], call, dtype)

    def is_wanted(tile: tuple[int, int]) -> bool:
        window = grid.tile_window(*tile).shifted(-source.row, -source.col)
        return bool(wanted[(bands, *window.slices)].any())

    for tile_row in block.tile_rows:
        tiles = [(tile_row, col) for col in block.tile_cols if is_wanted((tile_row, col))]
        counts.empty += len(block.tile_cols) - len(tiles)
        parts = {tile: grid.support_window(*tile).intersection(whole) for tile in tiles}
        kept = (
            {tile: cache.get((number, *tile), part, scale) for tile, part in parts.items()} if cache else {}
        )
        missing = [tile for tile in tiles if kept.get(tile) is None]
        counts.tiles += len(missing)
        computed = _batched(call, prepare, missing, counts)
        first, stop = _clip(grid.rows, tile_row, whole.row, whole.row_stop)
        strip = np.zeros((len(bands), (stop - first) * scale, mean.shape[2]), dtype=dtype)
        cols = Fold(strip, axis=2)
        for tile, part in parts.items():
            piece = kept.get(tile)
            if piece is None:
                output = next(computed)
                piece = _part_of(grid, tile, output, part, scale)
                if cache is not None:
                    _keep_beyond(cache, number, grid, tile, output, whole, scale)
            weights = _weights(grid.cols, tile[1], part.col, part.col_stop, scale)
            cols.add(piece, weights, (part.col - whole.col) * scale)
        weights = _weights(grid.rows, tile_row, first, stop, scale)
        rows.add(strip, weights, (first - whole.row) * scale)
    return mean if call.radiometry is None else call.radiometry.from_model(mean)


def _part_of(
    grid: TileGrid, tile: tuple[int, int], output: FloatArray, window: Window, scale: int
) -> FloatArray:
    """The part of a tile's output that lies over a window of the region."""
    own = grid.tile_window(*tile)
    return output[(slice(None), *window.shifted(-own.row, -own.col).scaled(scale).slices)]


def _keep_beyond(
    cache: TileCache,
    number: int,
    grid: TileGrid,
    tile: tuple[int, int],
    output: FloatArray,
    block: Window,
    scale: int,
) -> None:
    """Keep what of a tile's support lies to the right of its block and below it, for the blocks there."""
    support = grid.support_window(*tile)
    right = Window(support.row, block.col_stop, support.height, support.col_stop - block.col_stop)
    below = Window(block.row_stop, support.col, support.row_stop - block.row_stop, support.width)
    for beyond in (right, below):
        if beyond.height > 0 and beyond.width > 0:
            cache.put((number, *tile), beyond, _part_of(grid, tile, output, beyond, scale))


@dataclass(frozen=True)
class _GroupCall:
    """How one group's tiles go through its model."""

    upscaler: Upscaler
    bands: tuple[int, ...]
    channels: int
    """Inputs of the model: as many as bands, or one band repeated."""
    guide: tuple[int, ...] | None
    radiometry: Radiometry | None
    """Of the group's bands."""
    full_radiometry: Radiometry | None
    """Of all image bands."""

    @property
    def linear(self) -> bool:
        return self.upscaler.linear

    @property
    def read(self) -> list[int]:
        """Positions of all bands that a call needs."""
        return sorted({*self.bands, *(self.guide or ())})


def _group_call(rendering: Rendering, group: BandGroup) -> _GroupCall:
    upscaler, radiometry = rendering.upscaler, rendering.radiometry
    if group.through == "bicubic":
        upscaler, radiometry = Interpolator("bicubic", upscaler.scale), None
    channels = (upscaler.bands or 1) if group.through == "grey" else len(group.bands)
    own = None if radiometry is None else radiometry.select(group.bands)
    return _GroupCall(upscaler, group.bands, channels, group.guide, own, radiometry)


def _prepare(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    call: _GroupCall,
    dtype: np.dtype[np.floating[Any]],
) -> FloatArray:
    """A tile as the model takes it: filled, in its range, and padded by reflection beyond a small scene."""
    if not valid.any():  # wanted pixels are valid, so this is a tile that no one asks for
        raise AssertionError("a tile without one valid pixel was not skipped")
    filled = fill_invalid(values, valid)
    if call.full_radiometry is None:
        tile = filled.astype(dtype)
    else:
        tile = call.full_radiometry.select(tuple(call.read)).to_model(filled)
    rows, cols = (fitted(side, call.upscaler.multiple_of, call.upscaler.min_size) for side in tile.shape[1:])
    if (rows, cols) != tile.shape[1:]:
        tile = np.pad(tile, ((0, 0), (0, rows - tile.shape[1]), (0, cols - tile.shape[2])), mode="reflect")
    return tile


def _batched(
    call: _GroupCall,
    prepare: Callable[[tuple[int, int]], FloatArray],
    tiles: list[tuple[int, int]],
    counts: RenderCounts,
) -> Iterator[FloatArray]:
    """The model's result for each tile, in order, computed a batch at a time."""
    size = max(1, call.upscaler.batch)
    own = [call.read.index(band) for band in call.bands]
    for start in range(0, len(tiles), size):
        check_stop()
        stack = np.stack([prepare(tile) for tile in tiles[start : start + size]])
        lr = stack[:, own]
        guide = None if call.guide is None else stack[:, [call.read.index(band) for band in call.guide]]
        if call.channels != len(own):
            lr = np.repeat(lr, call.channels, axis=1)
        began = time.perf_counter()
        sr = call.upscaler(lr, guide)
        counts.seconds["model"] = counts.seconds.get("model", 0.0) + time.perf_counter() - began
        if call.channels != len(own):
            sr = sr.mean(axis=1, keepdims=True)
        yield from sr


def _clip(axis: Axis, tile: int, start: int, stop: int) -> tuple[int, int]:
    first, end = axis.supports[tile]
    return max(first, start), min(end, stop)


def _weights(axis: Axis, tile: int, start: int, stop: int, scale: int) -> NDArray[np.float32]:
    """Weights of a tile's output over start..stop, along one side of its support."""
    first, end = axis.supports[tile]
    weights = feather_weights(
        (end - first) * scale, axis.ramp * scale, fade_in=tile > 0, fade_out=tile < len(axis.origins) - 1
    )
    return weights[(start - first) * scale : (stop - first) * scale]


def _finish(
    computed: FloatArray,
    values: NDArray[Any],
    wanted: NDArray[np.bool_],
    rendering: Rendering,
    scale: int,
) -> NDArray[Any]:
    """Round one band to the file's dtype and give pixels that are not wanted their mark again."""
    out = to_dtype(computed, rendering.dtype)
    if rendering.nodata is not None:
        avoid_nodata(out, rendering.nodata)
    if wanted.all():
        return out
    if rendering.nodata is not None:
        mark = np.full(values.shape, nodata_marker(rendering.nodata, rendering.dtype))
    else:
        mark = values
    return np.where(repeat_pixels(wanted, scale), out, repeat_pixels(mark, scale))
