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
        for beyond in self._beyond(tile, block):
            self.cache.put((self.group, *tile), beyond, self.part_of(tile, output, beyond))

    def forget_finished(self, tile: tuple[int, int], block: Window) -> None:
        """Drop a tile that neither the blocks to the right of its own nor those below it will need."""
        if self.cache is not None and not self._beyond(tile, block):
            self.cache.forget((self.group, *tile))

    def _beyond(self, tile: tuple[int, int], block: Window) -> list[Window]:
        """The parts of a tile's support that later blocks will need."""
        support = self.grid.support_window(*tile)
        col = max(block.col_stop - self.grid.cols.margin, support.col)
        row = max(block.row_stop - self.grid.rows.margin, support.row)
        right = Window(support.row, col, support.height, support.col_stop - col)
        below = Window(row, support.col, support.row_stop - row, support.width)
        return [beyond for beyond in (right, below) if beyond.height > 0 and beyond.width > 0]

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
        tiles = self._wanted()
        everywhere = sum(map(len, tiles.values())) == self.block.tiles
        shape = self.call.planes, whole.height * scale, whole.width * scale
        planes = (np.empty if everywhere else np.zeros)(shape, dtype=self.dtype)
        covered = np.zeros((whole.height, whole.width), dtype=bool)
        rows, computed = Fold(planes, axis=1), self._computed(tiles, whole)
        for tile_row in self.block.tile_rows:
            first, stop = _clip(grid.rows, tile_row, whole.row, whole.row_stop)
            start, end = ((row - whole.row) * scale for row in (first, stop))
            fresh = rows.fresh(start, end)
            # Rows that no tile row covers yet are blended in place, the others into a strip beside them.
            strips = (
                np.zeros((self.call.planes, fresh - start, planes.shape[2]), self.dtype),
                planes[:, fresh:end],
            )
            folds = [Fold(strip, axis=2) for strip in strips]
            for tile_col, part, piece in computed[tile_row]:
                weights = _weights(grid.cols, tile_col, part.col, part.col_stop, scale)
                for fold, half in zip(folds, np.split(piece, [fresh - start], axis=1), strict=True):
                    fold.add(half, weights, (part.col - whole.col) * scale)
                covered[part.shifted(-whole.row, -whole.col).slices] = True
            weights = _weights(grid.rows, tile_row, first, stop, scale)
            rows.add(strips[0], weights[: fresh - start], start)
            rows.add(strips[1], weights[fresh - start :], fresh)
        return planes, covered

    def _wanted(self) -> dict[int, list[tuple[int, int]]]:
        """For each row of tiles those with wanted pixels: their rows and columns."""
        return {
            row: [(row, col) for col in self.block.tile_cols if self._is_wanted((row, col))]
            for row in self.block.tile_rows
        }

    def _computed(
        self, rows: dict[int, list[tuple[int, int]]], whole: Window
    ) -> dict[int, Iterator[tuple[int, Window, FloatArray]]]:
        """For each row of tiles its wanted ones, to be asked for in this order: column, window of the region, and output there.

        What is not kept is computed when it is asked for, in batches that go on from one row to the next.
        """
        parts = {
            tile: self.grid.support_window(*tile).intersection(whole)
            for tiles in rows.values()
            for tile in tiles
        }
        kept = {tile: self.cache.get(tile, part) for tile, part in parts.items()}
        for tile in parts:
            self.cache.forget_finished(tile, self.block.window)
        missing = [tile for tile in parts if kept[tile] is None]
        empty = self.block.tiles - len(parts)
        self.counts.empty += empty
        tell = on_tiles.get()
        tell(empty)
        self.counts.tiles += len(missing)
        outputs = batched(self.call, self._prepared, missing, self.counts)

        def pieces(tiles: list[tuple[int, int]]) -> Iterator[tuple[int, Window, FloatArray]]:
            for tile in tiles:
                piece = kept.pop(tile)
                if piece is None:
                    output = next(outputs)
                    piece = self.cache.part_of(tile, output, parts[tile])
                    self.cache.keep_beyond(tile, output, self.block.window)
                yield tile[1], parts[tile], piece
                tell(1)

        return {row: pieces(tiles) for row, tiles in rows.items()}

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
