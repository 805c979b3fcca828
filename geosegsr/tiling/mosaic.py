"""The tiles of one band group, computed or taken from the cache, and blended into all that a block needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.context import on_tiles
from geosegsr.models.contract import FloatArray
from geosegsr.raster.window import Window
from geosegsr.tiling.blend import Fold, feather_weights
from geosegsr.tiling.cache import TileCache
from geosegsr.tiling.grid import Axis, Block, TileGrid
from geosegsr.tiling.group import GroupCall, RenderCounts, batched, model_input


@dataclass(frozen=True)
class BlockInput:
    """The source window of a block; all arrays of shape (bands, h, w)."""

    values: NDArray[Any]
    """DN, in the scene's dtype."""
    valid: NDArray[np.bool_]
    """Pixels that hold data."""
    wanted: NDArray[np.bool_]
    """Valid pixels that belong to the result."""


@dataclass(frozen=True)
class GroupCache:
    """What the tiles of one band group give to later blocks."""

    cache: TileCache | None
    """None keeps nothing."""
    group: int
    """Number of the band group."""
    grid: TileGrid
    scale: int
    """Output pixels per input pixel, along each side."""

    def get(self, tile: tuple[int, int], window: Window) -> NDArray[Any] | None:
        """A tile's output over a window of the region; None if it is not kept."""
        return None if self.cache is None else self.cache.get((self.group, *tile), window, self.scale)

    def keep_beyond(self, tile: tuple[int, int], output: FloatArray, block: Window) -> None:
        """Keep the part of a tile's support that the blocks to the right of its own and below it will need."""
        if self.cache is None:
            return
        support = self.grid.support_window(*tile)
        col = max(block.col_stop - self.grid.cols.margin, support.col)
        row = max(block.row_stop - self.grid.rows.margin, support.row)
        right = Window(support.row, col, support.height, support.col_stop - col)
        below = Window(row, support.col, support.row_stop - row, support.width)
        for beyond in (right, below):
            if beyond.height > 0 and beyond.width > 0:
                self.cache.put((self.group, *tile), beyond, self.part_of(tile, output, beyond))

    def part_of(self, tile: tuple[int, int], output: FloatArray, window: Window) -> FloatArray:
        """The part of a tile's output that lies over a window of the region."""
        own = self.grid.tile_window(*tile)
        return output[(slice(None), *window.shifted(-own.row, -own.col).scaled(self.scale).slices)]


@dataclass(frozen=True)
class Mosaic:
    """One band group over all that is computed for a block."""

    call: GroupCall
    """How tiles go through the model."""
    grid: TileGrid
    block: Block
    source: BlockInput
    dtype: np.dtype[np.floating[Any]]
    """What tiles are computed and blended in."""
    cache: GroupCache
    counts: RenderCounts
    """Counts the tiles and the time in the model."""

    def blended(self) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Compute the tiles and blend them: along columns into strips, then along rows.

        Returns:
            Planes in the model's range, shape (planes, scale * h, scale * w), 0 where there are no tiles; and the lr
            pixels over which there are tiles, shape (h, w).
        """
        grid, scale = self.grid, self.cache.scale
        whole = grid.computed_window(self.block)
        planes = np.zeros((self.call.planes, whole.height * scale, whole.width * scale), dtype=self.dtype)
        covered = np.zeros((whole.height, whole.width), dtype=bool)
        rows = Fold(planes, axis=1)
        for tile_row in self.block.tile_rows:
            first, stop = _clip(grid.rows, tile_row, whole.row, whole.row_stop)
            strip = np.zeros((self.call.planes, (stop - first) * scale, planes.shape[2]), dtype=self.dtype)
            cols = Fold(strip, axis=2)
            for tile_col, part, piece in self._pieces(tile_row, whole):
                weights = _weights(grid.cols, tile_col, part.col, part.col_stop, scale)
                cols.add(piece, weights, (part.col - whole.col) * scale)
                covered[part.shifted(-whole.row, -whole.col).slices] = True
            weights = _weights(grid.rows, tile_row, first, stop, scale)
            rows.add(strip, weights, (first - whole.row) * scale)
        return planes, covered

    def _pieces(self, tile_row: int, whole: Window) -> Iterator[tuple[int, Window, FloatArray]]:
        """The wanted tiles of a row: column, window of the region, and the output over this window."""
        tiles = [(tile_row, col) for col in self.block.tile_cols if self._is_wanted((tile_row, col))]
        empty = len(self.block.tile_cols) - len(tiles)
        self.counts.empty += empty
        tell = on_tiles.get()
        tell(empty)
        parts = {tile: self.grid.support_window(*tile).intersection(whole) for tile in tiles}
        kept = {tile: self.cache.get(tile, part) for tile, part in parts.items()}
        missing = [tile for tile in tiles if kept[tile] is None]
        self.counts.tiles += len(missing)
        computed = batched(self.call, self._prepared, missing, self.counts)
        for tile, part in parts.items():
            piece = kept[tile]
            if piece is None:
                output = next(computed)
                piece = self.cache.part_of(tile, output, part)
                self.cache.keep_beyond(tile, output, self.block.window)
            yield tile[1], part, piece
            tell(1)

    def _prepared(self, tile: tuple[int, int]) -> FloatArray:
        """A tile as the model takes it."""
        crop = (self.call.read, *self._slices(tile))
        return model_input(self.source.values[crop], self.source.valid[crop], self.call, self.dtype)

    def _is_wanted(self, tile: tuple[int, int]) -> bool:
        return bool(self.source.wanted[(list(self.call.bands), *self._slices(tile))].any())

    def _slices(self, tile: tuple[int, int]) -> tuple[slice, slice]:
        """Where a tile lies in the source window."""
        corner = self.grid.source_window(self.block)
        return self.grid.tile_window(*tile).shifted(-corner.row, -corner.col).slices


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
