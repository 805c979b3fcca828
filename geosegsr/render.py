"""One block of output from the pixels around it: fill, scale, model, blend, round, mask. No files, no Dask.

What comes out depends on the scene's pixels, the model and the grid alone, never on which block a pixel
happens to lie in: blocks of any size, computed anywhere in any order, give the same raster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.bands import BandGroup
from geosegsr.errors import Cancelled
from geosegsr.feather import Fold, feather_weights
from geosegsr.fill import fill_invalid
from geosegsr.interpolation import Interpolator
from geosegsr.radiometry import Radiometry, avoid_nodata, nodata_marker, to_dtype, working_dtype
from geosegsr.upscaler import FloatArray, Upscaler
from geosegsr.windows import Axis, Block, TileGrid, Window, fitted

cancel = threading.Event()
"""Set it, and every render of this process stops before its next call of a model."""


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
    """Tiles computed, each band group counted once."""
    empty: int = 0
    """Tiles skipped because nothing in them is wanted."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time in the model and elsewhere."""


def render_block(
    rendering: Rendering,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
) -> tuple[NDArray[Any], RenderCounts]:
    """Compute a block.

    Args:
        rendering: Grid, model and radiometry.
        block: One of the grid's blocks.
        values: The scene's dtype, shape (bands, h, w): the block's source window.
        valid: Same shape; pixels that hold data.
        wanted: Same shape; valid pixels that belong to the result. The others keep nodata, or the value
            of the input pixel they lie in.

    Returns:
        The block in the scene's dtype, shape (bands in output order, scale * rows, scale * cols).
    """
    grid, scale = rendering.grid, rendering.upscaler.scale
    counts = RenderCounts()
    source = grid.source_window(block)
    inner = block.window.shifted(-source.row, -source.col)
    out_bands = sorted(band for group in rendering.groups for band in group.bands)
    out = np.empty((len(out_bands), inner.height * scale, inner.width * scale), dtype=rendering.dtype)
    for group in rendering.groups:
        computed = _render_group(rendering, group, block, values, valid, wanted, counts)
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
    group: BandGroup,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    counts: RenderCounts,
) -> FloatArray:
    """DN of one group's bands over the block, not rounded; (bands, scale * rows, scale * cols)."""
    grid, scale = rendering.grid, rendering.upscaler.scale
    call = _group_call(rendering, group)
    dtype = working_dtype(rendering.dtype, call.linear)
    source = grid.source_window(block)
    read = sorted({*group.bands, *(group.guide or ())})
    mean = np.zeros((len(group.bands), block.window.height * scale, block.window.width * scale), dtype=dtype)
    rows = Fold(mean, axis=1)
    for tile_row in block.tile_rows:
        first, stop = _clip(grid.rows, tile_row, block.window.row, block.window.row_stop)
        strip = np.zeros((len(group.bands), (stop - first) * scale, mean.shape[2]), dtype=dtype)
        cols = Fold(strip, axis=2)
        top = grid.rows.origins[tile_row]
        jobs = []
        for tile_col in block.tile_cols:
            window = grid.tile_window(tile_row, tile_col).shifted(-source.row, -source.col)
            if wanted[(list(group.bands), *window.slices)].any():
                jobs.append((tile_col, window))
        counts.empty += len(block.tile_cols) - len(jobs)
        counts.tiles += len(jobs)

        def prepare(window: Window) -> FloatArray:
            crop = (read, *window.slices)
            return _prepare(values[crop], valid[crop], call, dtype, read)

        for (tile_col, _), tile in zip(
            jobs, _batched(call, prepare, [window for _, window in jobs], counts), strict=True
        ):
            left = grid.cols.origins[tile_col]
            start, end = grid.cols.supports[tile_col]
            piece = tile[
                :, (first - top) * scale : (stop - top) * scale, (start - left) * scale : (end - left) * scale
            ]
            cols.add(piece, _weights(grid.cols, tile_col, scale), (start - block.window.col) * scale)
        support = grid.rows.supports[tile_row][0]
        weights = _weights(grid.rows, tile_row, scale)[(first - support) * scale : (stop - support) * scale]
        rows.add(strip, weights, (first - block.window.row) * scale)
    return mean if call.radiometry is None else call.radiometry.from_model(mean)


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
    read: list[int],
) -> FloatArray:
    """A tile as the model takes it: filled, in its range, and padded by reflection beyond a small scene."""
    if not valid.any():  # wanted pixels are valid, so this is a tile that no one asks for
        raise AssertionError("a tile without one valid pixel was not skipped")
    filled = fill_invalid(values, valid)
    if call.full_radiometry is None:
        tile = filled.astype(dtype)
    else:
        tile = call.full_radiometry.select(tuple(read)).to_model(filled)
    rows, cols = (fitted(side, call.upscaler.multiple_of, call.upscaler.min_size) for side in tile.shape[1:])
    if (rows, cols) != tile.shape[1:]:
        tile = np.pad(tile, ((0, 0), (0, rows - tile.shape[1]), (0, cols - tile.shape[2])), mode="reflect")
    return tile


def _batched(
    call: _GroupCall,
    prepare: Callable[[Window], FloatArray],
    windows: list[Window],
    counts: RenderCounts,
) -> Iterator[FloatArray]:
    """The model's result for each window, in order, computed a batch at a time."""
    size = max(1, call.upscaler.batch)
    read = sorted({*call.bands, *(call.guide or ())})
    own = [read.index(band) for band in call.bands]
    for start in range(0, len(windows), size):
        if cancel.is_set():
            raise Cancelled("The run was asked to stop.")
        tiles = np.stack([prepare(window) for window in windows[start : start + size]])
        lr = tiles[:, own]
        guide = None if call.guide is None else tiles[:, [read.index(band) for band in call.guide]]
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


def _weights(axis: Axis, tile: int, scale: int) -> NDArray[np.float32]:
    """Weights of a tile's output along one side of its support."""
    start, stop = axis.supports[tile]
    return feather_weights(
        (stop - start) * scale,
        axis.ramp * scale,
        fade_in=tile > 0,
        fade_out=tile < len(axis.origins) - 1,
    )


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
    fine = np.repeat(np.repeat(wanted, scale, axis=0), scale, axis=1)
    return np.where(fine, out, np.repeat(np.repeat(mark, scale, axis=0), scale, axis=1))
