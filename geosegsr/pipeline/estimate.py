"""What a run will take, extrapolated from a few of its blocks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.records import BlockRecord
from geosegsr.tiling.grid import TileGrid
from geosegsr.workers.engine import open_engine

# A COG takes the block files' size again, with its overviews a third more.
_COG_TO_BLOCKS = 4 / 3
# Copying into a COG and reading it back, in output bytes before compression; a whole granule in docs/benchmarks.md.
_COG_BYTES_PER_S = 58e6
_MOST_TILES = 16
"""A block with more tiles is measured in smaller ones."""
_TILES_A_SIDE = 3


@dataclass(frozen=True)
class Estimate:
    """What to expect from a plan on this machine."""

    width: int
    height: int
    bands: int
    dtype: str
    blocks: int
    tiles: int
    """Distinct tiles."""
    tiles_computed: int
    """Tiles to compute if blocks shared none: an upper bound."""
    memory_bytes: int
    """Peak of one process, an upper bound."""
    disk_bytes: int
    """Job folder and result side by side, extrapolated from some blocks."""
    seconds: float
    """Wall time on this machine without --workers, extrapolated from some blocks."""
    finished: bool
    """Whether the result exists already, so that there is nothing to do."""

    @classmethod
    def of(
        cls, planned: Plan, *, disk_bytes: int = 0, seconds: float = 0.0, finished: bool = False
    ) -> Estimate:
        """What is known from the plan, with what was measured."""
        grid, metadata = planned.grid, planned.metadata
        return cls(
            width=metadata.width,
            height=metadata.height,
            bands=len(metadata.bands),
            dtype=planned.scene.dtype.name,
            blocks=len(grid.blocks),
            tiles=grid.tiles,
            tiles_computed=0 if finished else grid.tiles_computed,
            memory_bytes=0 if finished else planned.memory_bytes,
            disk_bytes=disk_bytes,
            seconds=seconds,
            finished=finished,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(planned: Plan) -> Estimate:
    """Compute some blocks from the middle into a temporary folder, and extrapolate.

    Bands that take the same way through the model are measured once, and large blocks are cut to a few tiles, so that
    the measurement is short whatever the run.
    """
    written = seconds = 0.0
    for kind, times in _kinds(planned):
        measured = _measure(kind)
        written += measured.written * times
        seconds += measured.seconds * times
    return Estimate.of(
        planned,
        disk_bytes=int(written * (1 + _COG_TO_BLOCKS)),
        seconds=round(seconds + planned.output_bytes / _COG_BYTES_PER_S, 1),
    )


@dataclass(frozen=True)
class _Measured:
    """What all blocks of a plan take, as some of them did."""

    seconds: float
    written: float
    """Bytes of the block files."""


def _kinds(planned: Plan) -> Iterator[tuple[Plan, int]]:
    """The plan for one group of bands of each kind, and how many groups are of that kind."""
    rendering = planned.rendering
    kinds: dict[Any, list[int]] = {}
    for number, group in enumerate(rendering.groups):
        kinds.setdefault((group.through, len(group.bands), group.guide is None), []).append(number)
    for numbers in kinds.values():
        first = numbers[0]
        told = rendering.told[first : first + 1]
        one = replace(
            rendering, groups=(rendering.groups[first],), told=told, grid=_few_tiles(rendering.grid)
        )
        yield replace(planned, rendering=one), len(numbers)


def _few_tiles(grid: TileGrid) -> TileGrid:
    """The grid with blocks of a few tiles, where they have many."""
    if max(block.tiles for block in grid.blocks) <= _MOST_TILES:
        return grid
    return _in_blocks(grid, _TILES_A_SIDE)


def _in_blocks(grid: TileGrid, tiles: int) -> TileGrid:
    """The grid with blocks of so many tiles a side."""
    return grid.with_blocks(tiles * (grid.rows.tile - grid.rows.overlap))


def _load_model(planned: Plan, keeper: FolderKeeper, run_id: str) -> None:
    """Compute a block of one tile from the middle: the first call of a model takes longer than others."""
    grid = _in_blocks(planned.grid, 1)
    one = replace(planned, rendering=replace(planned.rendering, grid=grid))
    compute_block(one, {}, keeper, run_id, len(grid.blocks) // 2)


def _measure(planned: Plan) -> _Measured:
    """Compute as many blocks as run at a time."""
    grid = planned.grid
    first = max(0, (len(grid.blocks) - planned.threads) // 2)
    some = grid.blocks[first : first + planned.threads]
    records: list[BlockRecord] = []
    with tempfile.TemporaryDirectory(prefix="geosegsr-") as folder:
        (Path(folder) / "blocks").mkdir()
        keeper = FolderKeeper(Path(folder))
        # Tiles are kept by the run: none may be found that another measurement has computed for other bands.
        first_run, second_run = f"{folder} first", f"{folder} second"
        _load_model(planned, keeper, first_run)
        began = time.perf_counter()
        with open_engine() as engine:
            engine.run(
                partial(compute_block, planned, {}, keeper, second_run),
                [block.index for block in some],
                records.append,
                together=len(grid.blocks),
                shared_folder=Path(folder),
                at_a_time=planned.threads,
            )
        took = time.perf_counter() - began
    area = planned.area.window
    share = (area.height * area.width) / sum(block.window.height * block.window.width for block in some)
    written = sum(file.size for record in records for file in record.files.values())
    return _Measured(took * share, written * share)
