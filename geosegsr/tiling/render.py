"""One block of output from the pixels around it: fill, scale, model, blend, round, mask. No files, no Dask.

What comes out depends on the scene's pixels, the model and the grid alone, never on which block a pixel
happens to lie in: blocks of any size, computed anywhere in any order, give the same raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.models.contract import FloatArray, Upscaler
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.nodata import avoid_nodata, nodata_marker
from geosegsr.raster.radiometry import Radiometry, to_dtype, working_dtype
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import (
    Residual,
    Sampling,
    degraded,
    footprint,
    project,
    quantum_of,
)
from geosegsr.tiling.blend import Fold, feather_weights
from geosegsr.tiling.cache import TileCache
from geosegsr.tiling.grid import Axis, Block, TileGrid
from geosegsr.tiling.group import RenderCounts, batched, group_call, model_input, output_bands


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
    samplings: tuple[Sampling, ...] = ()
    """Of the sensor, for each image band, to compare the result with its input; empty not to."""
    consistent: bool = False
    """Whether the result is made consistent with its input."""
    uncertainty: bool = False
    """Whether to tell how far the members of an ensemble lie apart."""
    told: tuple[Upscaler, ...] = ()
    """The model for each group, told how its bands were imaged; empty where it takes no descriptor."""

    def upscaler_of(self, group: int) -> Upscaler:
        """The model that a group of bands goes through."""
        return self.told[group] if self.told else self.upscaler


@dataclass(frozen=True)
class Rendered:
    """A block, computed."""

    image: NDArray[Any]
    """The scene's dtype, shape (bands in output order, scale * rows, scale * cols)."""
    uncertainty: NDArray[np.float32] | None
    """Same shape, in DN: standard group_uncertainty over the ensemble, NaN where the image has no data; None if not asked for."""
    residuals: tuple[Residual, ...]
    """How far each band is from its input; empty where the sensor is not known."""
    counts: RenderCounts


def render_block(
    rendering: Rendering,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    cache: TileCache | None = None,
) -> Rendered:
    """Compute a block.

    Args:
        rendering: Grid, model and radiometry.
        block: One of the grid's blocks.
        values: The scene's dtype, shape (bands, h, w): the block's source window.
        valid: Same shape; pixels that hold data.
        wanted: Same shape; valid pixels that belong to the result. The others keep nodata, or the value
            of the input pixel they lie in.
        cache: Where results of tiles are kept for the blocks beside and below; of the same rendering and scene.
    """
    grid, scale = rendering.grid, rendering.upscaler.facts.scale
    source, whole = grid.source_window(block), grid.computed_window(block)
    read = whole.shifted(-source.row, -source.col).slices
    inner = block.window.shifted(-whole.row, -whole.col)
    bands = output_bands(rendering.groups)
    shape = (len(bands), inner.height * scale, inner.width * scale)
    image = np.empty(shape, dtype=rendering.dtype)
    uncertainty = np.empty(shape, dtype=np.float32) if rendering.uncertainty else None
    residuals = [Residual() for _ in bands if rendering.samplings]
    counts = RenderCounts()
    for number, group in enumerate(rendering.groups):
        dn, group_uncertainty, covered = _render_group(
            rendering, number, block, values, valid, wanted, counts, cache
        )
        for position, band in enumerate(group.bands):
            slot = bands.index(band)
            lr = _Input(
                values[band][read], valid[band][read], wanted[band][read], covered, (whole.row, whole.col)
            )
            image[slot], residual = _settled(dn[position], lr, inner, rendering, band, counts)
            if residual is not None:
                residuals[slot] = residual
            if uncertainty is not None:
                uncertainty[slot] = (
                    0
                    if group_uncertainty is None
                    else group_uncertainty[position][inner.scaled(scale).slices]
                )
                uncertainty[slot][repeat_pixels(~lr.wanted[inner.slices], scale)] = np.nan
    return Rendered(image, uncertainty, tuple(residuals), counts)


@dataclass(frozen=True)
class _Input:
    """One band of the input, over all that was computed for a block; arrays of shape (h, w)."""

    values: NDArray[Any]
    """DN."""
    valid: NDArray[np.bool_]
    """Pixels that hold data."""
    wanted: NDArray[np.bool_]
    """Those of them that belong to the result."""
    covered: NDArray[np.bool_]
    """Pixels over which tiles were computed."""
    corner: tuple[int, int]
    """Row and column of the first pixel, in the region."""

    def known(self, sampling: Sampling) -> NDArray[np.bool_]:
        """Pixels that results can be made consistent with, in or around the part that is wanted."""
        return self.valid & footprint(self.covered, sampling)

    def compared(self, sampling: Sampling) -> NDArray[np.bool_]:
        """Pixels that see nothing but valid pixels of the result, as anyone can see them who has both files."""
        return footprint(self.wanted & self.covered, sampling)


def _settled(
    dn: FloatArray, lr: _Input, inner: Window, rendering: Rendering, band: int, counts: RenderCounts
) -> tuple[NDArray[Any], Residual | None]:
    """One band of a block as it comes out: consistent if asked for, rounded and marked; and how far it is off."""
    sampling = rendering.samplings[band] if rendering.samplings else None
    residual = None
    if rendering.consistent and sampling is not None:
        with counts.timed("consistency"):
            quantum = quantum_of(rendering.dtype)
            project(dn, lr.values, lr.known(sampling), sampling, lr.corner, quantum)
    rounded = _rounded(dn, rendering)
    if sampling is not None:
        with counts.timed("consistency"):
            residual = _residual(rounded, lr, inner, sampling)
    image = rounded[inner.scaled(rendering.upscaler.facts.scale).slices]
    _mark(image, lr.values[inner.slices], lr.wanted[inner.slices], rendering)
    return image, residual


def _residual(rounded: NDArray[Any], lr: _Input, inner: Window, sampling: Sampling) -> Residual:
    """Of a block's pixels, as they come out."""
    compared = lr.compared(sampling)[inner.slices]
    seen = degraded(rounded.astype(working_dtype(rounded.dtype, linear=True)), sampling, lr.corner)
    return Residual.of(seen[inner.slices], lr.values[inner.slices], compared)


def _render_group(
    rendering: Rendering,
    number: int,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    counts: RenderCounts,
    cache: TileCache | None,
) -> tuple[FloatArray, FloatArray | None, NDArray[np.bool_]]:
    """One group's bands over all that is computed for a block.

    Returns:
        DN, not rounded, shape (bands, scale * h, scale * w); the standard deviation over the ensemble in DN, same shape, or None if
        there is none; and the lr pixels over which tiles were computed, shape (h, w).
    """
    grid, scale = rendering.grid, rendering.upscaler.facts.scale
    group = rendering.groups[number]
    call = group_call(
        group, rendering.upscaler_of(number), rendering.radiometry, uncertainty=rendering.uncertainty
    )
    dtype = working_dtype(rendering.dtype, call.linear)
    source = grid.source_window(block)
    bands = list(group.bands)
    whole = grid.computed_window(block)
    mean = np.zeros((call.planes, whole.height * scale, whole.width * scale), dtype=dtype)
    covered = np.zeros((whole.height, whole.width), dtype=bool)
    rows = Fold(mean, axis=1)

    def prepare(tile: tuple[int, int]) -> FloatArray:
        crop = (call.read, *grid.tile_window(*tile).shifted(-source.row, -source.col).slices)
        return model_input(values[crop], valid[crop], call, dtype)

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
        computed = batched(call, prepare, missing, counts)
        first, stop = _clip(grid.rows, tile_row, whole.row, whole.row_stop)
        strip = np.zeros((call.planes, (stop - first) * scale, mean.shape[2]), dtype=dtype)
        cols = Fold(strip, axis=2)
        for tile, part in parts.items():
            piece = kept.get(tile)
            if piece is None:
                output = next(computed)
                piece = _part_of(grid, tile, output, part, scale)
                if cache is not None:
                    _keep_beyond(cache, number, grid, tile, output, block.window, scale)
            weights = _weights(grid.cols, tile[1], part.col, part.col_stop, scale)
            cols.add(piece, weights, (part.col - whole.col) * scale)
            covered[part.shifted(-whole.row, -whole.col).slices] = True
        weights = _weights(grid.rows, tile_row, first, stop, scale)
        rows.add(strip, weights, (first - whole.row) * scale)
    sr, group_uncertainty = mean[: len(bands)], mean[len(bands) :] if call.uncertainty else None
    if call.radiometry is not None:
        sr = call.radiometry.from_model(sr)
        group_uncertainty = (
            None if group_uncertainty is None else call.radiometry.uncertainty_from_model(group_uncertainty)
        )
    return sr, group_uncertainty, covered


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
    """Keep what of a tile's support the blocks to the right of its own and below it will need."""
    support = grid.support_window(*tile)
    col = max(block.col_stop - grid.cols.margin, support.col)
    row = max(block.row_stop - grid.rows.margin, support.row)
    right = Window(support.row, col, support.height, support.col_stop - col)
    below = Window(row, support.col, support.row_stop - row, support.width)
    for beyond in (right, below):
        if beyond.height > 0 and beyond.width > 0:
            cache.put((number, *tile), beyond, _part_of(grid, tile, output, beyond, scale))


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


def _rounded(dn: FloatArray, rendering: Rendering) -> NDArray[Any]:
    """One band in the file's dtype, nowhere equal to nodata."""
    out = to_dtype(dn, rendering.dtype)
    if rendering.nodata is not None:
        avoid_nodata(out, rendering.nodata)
    return out


def _mark(image: NDArray[Any], values: NDArray[Any], wanted: NDArray[np.bool_], rendering: Rendering) -> None:
    """Give the pixels of one band that are not wanted their mark again, in place."""
    if wanted.all():
        return
    scale = rendering.upscaler.facts.scale
    if rendering.nodata is None:
        fine = repeat_pixels(~wanted, scale)
        image[fine] = repeat_pixels(values, scale)[fine]
    else:
        image[repeat_pixels(~wanted, scale)] = nodata_marker(rendering.nodata, rendering.dtype)
