"""The grid covers every pixel, its blocks cover it once, and no tile leaves the scene."""

from dataclasses import replace
from itertools import pairwise
from math import lcm

import pytest
from fakes import grid_of
from hypothesis import given
from hypothesis import strategies as st

from geosegsr.errors import WindowError
from geosegsr.raster.window import Window
from geosegsr.tiling.grid import Axis, Tiling


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    tile = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, tile - 1))
    halo = draw(st.integers(0, overlap // 2))
    size = draw(st.integers(1, 200))
    start = draw(st.integers(0, size - 1))
    stop = draw(st.integers(start + 1, size))
    return Axis(size, tile, overlap, halo, start, stop)


@given(axes())
def test_every_pixel_lies_in_a_support_inside_its_tile(axis: Axis) -> None:
    decided = set()
    for origin, (start, stop) in zip(axis.origins, axis.supports, strict=True):
        assert origin <= start < stop <= min(origin + axis.tile, axis.size)
        assert start == 0 or start >= origin + axis.halo
        assert stop == axis.size or stop <= origin + axis.tile - axis.halo
        decided.update(range(start, stop))
    assert decided == set(range(axis.size))


@given(axes())
def test_neighbours_share_exactly_the_ramp(axis: Axis) -> None:
    for (_, stop), (start, _) in zip(axis.supports[:-1], axis.supports[1:], strict=True):
        assert stop - start == axis.ramp


@given(axes())
def test_without_a_ramp_supports_begin_at_multiples_of_the_stride(axis: Axis) -> None:
    if axis.ramp == 0 and axis.halo:
        assert [start for start, _ in axis.supports] == [n * axis.stride for n in range(len(axis.supports))]


@given(st.integers(1, 40), st.data())
def test_a_side_of_one_tile_is_not_divided(tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    tiling = Tiling(tile, overlap, overlap // 2, waste=data.draw(st.sampled_from([0.0, 0.06, 0.15])))
    size = data.draw(st.integers(1, tile))
    assert tiling.axis(size, 0, size, 0).origins == (0,)


@given(axes(), st.integers(1, 60), st.integers(1, 300), st.integers(0, 9))
def test_blocks_of_a_unit(axis: Axis, unit: int, side: int, margin: int) -> None:
    """Where such blocks are called even, they share no more of a tile than its overlap and what is read around them."""
    cut = replace(axis, unit=unit, margin=margin)
    blocks = cut.blocks(side)
    assert [pixel for span in blocks for pixel in range(*span)] == list(range(axis.start, axis.stop))
    assert all((stop - start) % unit == 0 for start, stop in blocks[:-1])
    if cut.is_even(unit) and len(cut.supports) > 1:
        for _, stop in blocks[:-1]:
            last = cut.supports[cut.touching(stop - 1, stop)[-1]]
            assert last[1] - stop <= axis.overlap + margin or last[1] == axis.size


@given(axes(), st.integers(1, 300))
def test_blocks_cover_the_wanted_pixels_once_and_in_order(axis: Axis, side: int) -> None:
    covered = [pixel for start, stop in axis.blocks(side) for pixel in range(start, stop)]
    assert covered == list(range(axis.start, axis.stop))


@given(axes(), st.data())
def test_touching_finds_exactly_the_tiles_with_a_say(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.size - 1))
    stop = data.draw(st.integers(start + 1, axis.size))
    wanted = {
        i for i, (first, end) in enumerate(axis.supports) if set(range(first, end)) & set(range(start, stop))
    }
    assert set(axis.touching(start, stop)) == wanted


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 30), st.data())
def test_a_blocks_source_window_holds_all_its_tiles(
    height: int, width: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    block = data.draw(st.integers(1, 50))
    grid = grid_of(height, width, tile=tile, overlap=overlap, halo=0, block=block)
    for one in grid.blocks:
        source = grid.source_window(one)
        assert source.row >= 0 and source.col >= 0 and source.row_stop <= height and source.col_stop <= width
        for row in one.tile_rows:
            for col in one.tile_cols:
                inside = grid.tile_window(row, col)
                assert source.row <= inside.row and inside.row_stop <= source.row_stop
                assert source.col <= inside.col and inside.col_stop <= source.col_stop
    assert grid.tiles_computed >= grid.tiles
    assert sum(b.window.height * b.window.width for b in grid.blocks) == height * width


def test_blocks_that_share_tiles_are_done_one_after_the_other() -> None:
    grid = grid_of(100, 130, tile=20, overlap=6, halo=0, block=40)
    rows, cols = grid.block_shape
    assert rows * cols == len(grid.blocks) > 6
    for block in grid.blocks:
        above_and_left = [
            other.index
            for other in grid.blocks
            if (other.window.row_stop, other.window.col) == (block.window.row, block.window.col)
            or (other.window.row, other.window.col_stop) == (block.window.row, block.window.col)
        ]
        assert sorted(grid.before(block.index)) == above_and_left


def test_a_hard_cut_between_tiles_computes_none_twice() -> None:
    grid = grid_of(1000, 1000, tile=64, overlap=4, halo=2, block=240)
    assert len(grid.blocks) > 1
    assert grid.tiles_computed == grid.tiles


@pytest.mark.parametrize("margin", [0, 3, 9])
@pytest.mark.parametrize(("tile", "overlap", "halo"), [(32, 8, 2), (24, 12, 0), (40, 6, 3)])
def test_no_other_place_to_cut_blocks_needs_fewer_tiles(
    tile: int, overlap: int, halo: int, margin: int
) -> None:
    """Also where a block's pixels depend on some beyond it, as those of a consistent result do."""
    stride = tile - overlap
    size = overlap + 12 * stride
    axis = Axis(size, tile, overlap, halo, 0, size, margin)
    side = 3 * stride
    computed = sum(len(axis.touching(*block)) for block in axis.blocks(side))
    for first in range(1, side + 1):
        cuts = [0, *range(first, size, side), size]
        assert computed <= sum(len(axis.touching(*block)) for block in pairwise(cuts))


def test_a_margin_costs_no_more_tiles_than_it_must() -> None:
    """Three blocks of four tiles: each but the first computes one tile again, whose ramp its margin reaches into."""
    sizes = {"tile": 32, "overlap": 8, "halo": 2, "block": 96}
    plain = grid_of(32, 8 + 12 * 24, **sizes)
    wide = grid_of(32, 8 + 12 * 24, **sizes, margin=6)
    assert [len(block.tile_cols) for block in plain.blocks] == [4, 5, 5]
    assert [len(block.tile_cols) for block in wide.blocks] == [4, 5, 5]
    assert wide.tiles_computed == plain.tiles_computed == wide.tiles + 2


def test_blocks_wait_only_for_those_whose_tiles_they_share() -> None:
    apart = grid_of(1024, 1024, tile=260, overlap=4, halo=2, block=512).with_blocks(512, 512)
    assert [apart.before(index) for index in range(4)] == [(), (), (), ()]
    shared = grid_of(1024, 1024, tile=288, overlap=32, halo=8, block=512).with_blocks(512, 512)
    assert [shared.before(index) for index in range(4)] == [(), (0,), (0,), (1, 2)]


def test_tile_sides_obey_the_models_rules() -> None:
    grid = grid_of(5, 70, tile=64, overlap=8, halo=0, block=64, multiple_of=16, min_size=32)
    assert grid.rows.tile == 32
    assert grid.cols.tile == 48  # two of them cover 70 pixels


@given(st.integers(1, 3000), st.integers(1, 80), st.integers(1, 16), st.data())
def test_tiles_are_as_small_as_their_number_allows(
    size: int, side: int, multiple_of: int, data: st.DataObject
) -> None:
    tile = side * multiple_of
    overlap = data.draw(st.integers(0, tile - 1))
    grid = grid_of(1, size, tile=tile, overlap=overlap, halo=0, block=max(size, 1), multiple_of=multiple_of)
    given_side = Axis(size, tile, overlap, 0, 0, size)
    assert len(grid.cols.origins) == len(given_side.origins)
    assert grid.cols.tile <= tile and grid.cols.tile % multiple_of == 0
    step = lcm(multiple_of, 8)
    if len(grid.cols.origins) > 1 and grid.cols.tile > overlap + step:
        smaller = Axis(size, grid.cols.tile - step, overlap, 0, 0, size)
        assert len(smaller.origins) > len(given_side.origins)


@pytest.mark.parametrize(
    ("tile", "overlap", "block"), [(0, 0, 8), (16, 16, 8), (16, 20, 8), (16, -1, 8), (15, 4, 8), (16, 4, 0)]
)
def test_impossible_numbers_are_refused(tile: int, overlap: int, block: int) -> None:
    with pytest.raises(WindowError, match="Cannot use"):
        grid_of(100, 100, tile=tile, overlap=overlap, halo=0, block=block, multiple_of=2)


def test_window_grows_only_within_the_scene() -> None:
    assert Window(2, 90, 5, 8).grown(4, 100, 100) == Window(0, 86, 11, 14)
