"""Which pixels each tile reads, to which it contributes, and which tiles a block needs. Integers only, no I/O.

One axis, three tiles (tile 8, overlap 4, halo 1), the last one clamped to the scene's edge:

    scene     0         1
              0123456789012345
    tile 0    ########
    tile 1        ########
    tile 2            ########      on a scene of 15 pixels it starts at 7 instead of 8
    support 0 #######               where a tile contributes: the tile less its halo at inner edges,
    support 1      ######           and for the last one less what its neighbour covers alone
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from math import lcm

from geosegsr.errors import WindowError
from geosegsr.models.contract import fitted
from geosegsr.raster.window import Window

# 650,000 x 650,000 output pixels at the usual side. A header of a few bytes can claim more.
_MOST_BLOCKS = 100_000
_QUICK = 8
"""Networks are quick on sides that are multiples of this: on one of 274 pixels, they take longer than on one of 288."""
_BLOCKS_A_TILE = 3
"""Blocks along the side of a scene of one tile, at most: the first of them computes it for all."""


@dataclass(frozen=True)
class Axis:
    """Tiles and blocks along one side of the scene, in lr pixels."""

    size: int
    """Length of the side that tiles may read."""
    tile: int
    """Length of a tile; if the region is shorter, its only tile is padded up to it when read."""
    overlap: int
    """Pixels that neighbours share."""
    halo: int
    """Pixels at a tile's inner edges that are context only."""
    start: int
    """First pixel that is wanted."""
    stop: int
    """First pixel that is no longer wanted."""
    margin: int = 0
    """Pixels beyond a block's end that its own pixels depend on."""
    unit: int = 0
    """What the sides of blocks are multiples of, except for the last; 0 where blocks are fitted to tiles instead."""

    @cached_property
    def origins(self) -> tuple[int, ...]:
        """First pixel of each tile; the last tile is moved back so that it ends with the side."""
        if self.size <= self.tile:
            return (0,)
        regular = range(-self.lead, self.size - self.tile, self.stride)
        return (0, *regular[1:], self.size - self.tile)

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.tile - self.overlap

    @property
    def lead(self) -> int:
        """Pixels that tiles begin early, so that supports begin at multiples of the stride; only where none is feathered."""
        return self.halo if self.ramp == 0 else 0

    @property
    def ramp(self) -> int:
        """Pixels over which two neighbours are feathered."""
        return self.overlap - 2 * self.halo

    @cached_property
    def supports(self) -> tuple[tuple[int, int], ...]:
        """Pixels to which each tile contributes, as (start, stop); neighbours' supports share `ramp` pixels."""
        if len(self.origins) == 1:
            return ((0, self.size),)
        if self.lead:
            starts = [number * self.stride for number in range(len(self.origins))]
            return tuple(pairwise([*starts, self.size]))
        stops = [*(origin + self.tile - self.halo for origin in self.origins[:-1]), self.size]
        starts = [0, *(origin + self.halo for origin in self.origins[1:-1]), stops[-2] - self.ramp]
        return tuple(zip(starts, stops, strict=True))

    def grown(self, start: int, stop: int) -> tuple[int, int]:
        """The pixels that start..stop depend on: a margin on either side, within the region."""
        return max(start - self.margin, 0), min(stop + self.margin, self.size)

    def touching(self, start: int, stop: int) -> range:
        """Indices of the tiles that contribute to the pixels that start..stop depend on."""
        start, stop = self.grown(start, stop)
        starts, stops = self._bounds
        return range(bisect_right(stops, start), bisect_left(starts, stop))

    @cached_property
    def _bounds(self) -> tuple[tuple[int, ...], ...]:
        """First pixels of all supports, and their ends; both rise from tile to tile."""
        return tuple(zip(*self.supports, strict=True))

    def is_even(self, unit: int) -> bool:
        """Whether cuts at multiples of a unit lie just before supports begin, so that blocks share only their edges."""
        if len(self.origins) == 1:
            return self.size <= unit * _BLOCKS_A_TILE
        first = self.supports[1][0]
        return unit % self.stride == 0 and self.start + self.margin <= first - self.stride

    def block_count(self, side: int) -> int:
        """About how many pieces `blocks` makes, without making them."""
        stride = self.unit or self.stride
        return -(-(self.stop - self.start) // (max(1, round(side / stride)) * stride))

    def blocks(self, side: int) -> tuple[tuple[int, int], ...]:
        """The wanted pixels cut into pieces of about `side`, as (start, stop).

        Without a unit, cuts lie where a tile's support begins, less the margin, so that a block needs as few tiles as possible.
        """
        if self.unit:
            step = max(1, round(side / self.unit)) * self.unit
            return tuple(pairwise((*range(self.start, self.stop, step), self.stop)))
        tiles_a_block = max(1, round(side / self.stride))
        inner = [first - self.margin for first, _ in self.supports[tiles_a_block::tiles_a_block]]
        cuts = [self.start, *(cut for cut in inner if self.start < cut < self.stop), self.stop]
        return tuple(pairwise(cuts))


@dataclass(frozen=True)
class Tiling:
    """Size and overlap of tiles, in lr pixels, and what a model requires of them.

    Raises:
        WindowError: The model does not accept such tiles, or they leave no stride.
    """

    tile: int
    """Side of a tile, at most: as many tiles as this takes are made as small as cover a side evenly."""
    overlap: int
    """Pixels shared by neighbouring tiles; 2 * halo <= overlap < tile."""
    halo: int = 0
    """Context pixels at the inner edges of tiles."""
    multiple_of: int = 1
    """Tile sides must be a multiple of this."""
    min_size: int = 1
    """The shortest side that is allowed."""
    waste: float = 0.0
    """Share of a scene's side that tiles may compute twice and still keep theirs; blocks then begin at multiples of the stride."""

    def __post_init__(self) -> None:
        least = max(1, self.min_size)
        if self.tile < least or self.tile % self.multiple_of:
            also = f" and a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
            raise WindowError(
                f"Cannot use tiles of {self.tile} pixels: the model needs at least {least}{also}. Pass another --tile."
            )
        if not 0 <= self.overlap < self.tile:
            raise WindowError(
                f"Cannot use an overlap of {self.overlap} pixels with tiles of {self.tile}: it must be at least 0 and "
                f"less than the tile. Pass --overlap {self.tile // 4}, or a larger --tile."
            )

    def axis(self, size: int, start: int, stop: int, margin: int) -> Axis:
        """The tiles along a side of `size` pixels, of which start..stop are wanted."""
        whole = fitted(size, self.multiple_of, self.min_size)
        if whole < self.tile:
            return Axis(size, whole, 0, 0, start, stop, margin)
        widest = Axis(size, self.tile, self.overlap, min(self.halo, self.overlap // 2), start, stop, margin)
        if size <= self.tile:
            return widest
        covered = size + widest.lead
        count = max(1, -(-(covered - self.overlap) // widest.stride))
        # As many tiles, with no more overlap than asked for.
        even = -(-(covered + (count - 1) * self.overlap) // count)
        side = min(self.tile, fitted(even, lcm(self.multiple_of, _QUICK), self.min_size))
        wasted = count * widest.stride + self.overlap - covered
        return widest if wasted <= self.waste * size else replace(widest, tile=side)


@dataclass(frozen=True)
class Block:
    """A part of the output: the unit of work, of resume and of files."""

    index: int
    """Position in the grid's list, row by row."""
    window: Window
    """The pixels it covers, in lr pixels of the readable region."""
    tile_rows: range
    """Rows of tiles that contribute to it."""
    tile_cols: range
    """Columns of tiles that contribute to it."""

    @property
    def tiles(self) -> int:
        """Number of tiles computed for it."""
        return len(self.tile_rows) * len(self.tile_cols)


@dataclass(frozen=True)
class TileGrid:
    """The one grid of tiles over a scene, and its output cut into blocks.

    Rows and columns count from the corner of the readable region, which is the scene itself or, for an
    area of interest, the area with some context around it.
    """

    rows: Axis
    cols: Axis
    block: int
    """Side of a block that was asked for, in lr pixels."""

    @classmethod
    def plan(
        cls,
        height: int,
        width: int,
        tiling: Tiling,
        *,
        block: int,
        wanted: Window | None = None,
        margin: int = 0,
    ) -> TileGrid:
        """Lay tiles over a region.

        Args:
            height: Rows that may be read, in lr pixels.
            width: Columns that may be read.
            tiling: Size and overlap of tiles.
            block: Side of a block, in lr pixels; rounded to whole tiles.
            wanted: The part to compute; all of it by default.
            margin: Pixels around a block that its own pixels depend on.

        Raises:
            WindowError: The side of a block is less than one pixel, or there would be too many blocks.
        """
        if block < 1:
            raise WindowError(f"Cannot use blocks of {block} pixels. Pass a --block of at least 1.")
        wanted = wanted or Window(0, 0, height, width)
        grid = cls(
            tiling.axis(height, wanted.row, wanted.row_stop, margin),
            tiling.axis(width, wanted.col, wanted.col_stop, margin),
            block,
        )
        if (count := grid.rows.block_count(block) * grid.cols.block_count(block)) > _MOST_BLOCKS:
            raise WindowError(
                f"Cannot cut {wanted.width:,} x {wanted.height:,} pixels into blocks of {block}: that makes "
                f"{count:,} blocks, and a run has at most {_MOST_BLOCKS:,}. Pass a part of the scene, a larger --block or "
                "a smaller --scale."
            )
        return grid

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every block, row by row; together they cover each wanted pixel exactly once."""
        rows = [(span, self.rows.touching(*span)) for span in self.rows.blocks(self.block)]
        cols = [(span, self.cols.touching(*span)) for span in self.cols.blocks(self.block)]
        return tuple(
            Block(index, Window(top, left, bottom - top, right - left), tile_rows, tile_cols)
            for index, (((top, bottom), tile_rows), ((left, right), tile_cols)) in enumerate(
                product(rows, cols)
            )
        )

    def with_blocks(self, block: int, unit: int = 0) -> TileGrid:
        """The same tiles with other blocks.

        Args:
            block: Side in lr pixels.
            unit: What sides are multiples of; 0 to cut blocks where they need as few tiles as possible.
        """
        rows, cols = (replace(axis, unit=unit) for axis in (self.rows, self.cols))
        return replace(self, rows=rows, cols=cols, block=block)

    def is_even(self, unit: int) -> bool:
        """Whether blocks whose sides are multiples of a unit share no more of a tile than those that are fitted to tiles."""
        return all(axis.is_even(unit) for axis in (self.rows, self.cols))

    def before(self, index: int) -> tuple[int, ...]:
        """Blocks to compute before this one, if possible: those above and to the left whose tiles it shares."""
        _, across = self.block_shape
        block, blocks = self.blocks[index], self.blocks
        above = index >= across and block.tile_rows.start < blocks[index - across].tile_rows.stop
        left = index % across > 0 and block.tile_cols.start < blocks[index - 1].tile_cols.stop
        return (index - across,) * above + (index - 1,) * left

    @cached_property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return len(self.rows.blocks(self.block)), len(self.cols.blocks(self.block))

    @property
    def tiles(self) -> int:
        """Number of different tiles that contribute to a wanted pixel."""
        return len(self.rows.touching(self.rows.start, self.rows.stop)) * len(
            self.cols.touching(self.cols.start, self.cols.stop)
        )

    @cached_property
    def tiles_computed(self) -> int:
        """Number of tile computations if no tile is cached: an upper bound."""
        return sum(block.tiles for block in self.blocks)

    def tile_window(self, row: int, col: int) -> Window:
        """What tile (row, col) reads: inside the region, so shorter than a tile where the region is."""
        return Window(
            self.rows.origins[row],
            self.cols.origins[col],
            min(self.rows.tile, self.rows.size),
            min(self.cols.tile, self.cols.size),
        )

    def support_window(self, row: int, col: int) -> Window:
        """Where tile (row, col) contributes."""
        (top, bottom), (left, right) = self.rows.supports[row], self.cols.supports[col]
        return Window(top, left, bottom - top, right - left)

    def computed_window(self, block: Block) -> Window:
        """The pixels that must be computed for a block: its own and those they depend on."""
        window = block.window
        top, bottom = self.rows.grown(window.row, window.row_stop)
        left, right = self.cols.grown(window.col, window.col_stop)
        return Window(top, left, bottom - top, right - left)

    def source_window(self, block: Block) -> Window:
        """The one window that holds all that the block's tiles read."""
        first = self.tile_window(block.tile_rows[0], block.tile_cols[0])
        last = self.tile_window(block.tile_rows[-1], block.tile_cols[-1])
        return Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
