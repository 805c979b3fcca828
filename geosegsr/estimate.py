"""What a run will take, from one of its blocks done for real."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosegsr.blockwork import compute_block
from geosegsr.runplan import Plan

# A COG takes the block files' size again, with its overviews a third more.
_COG_TO_BLOCKS = 4 / 3
# Copying into a COG and reading it back, in output bytes before compression; measured in docs/benchmarks.md.
_COG_BYTES_PER_S = 37e6


@dataclass(frozen=True)
class Estimate:
    """What to expect of a plan on this machine."""

    width: int
    height: int
    bands: int
    dtype: str
    blocks: int
    tiles: int
    """Different tiles."""
    tiles_computed: int
    """Tile computations, those of tiles shared by blocks counted in each."""
    memory_bytes: int
    """Peak of one process, an upper bound."""
    disk_bytes: int
    """Job folder and result side by side, extrapolated from one block."""
    seconds: float
    """Wall time on this machine without --workers, extrapolated from one block."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(planned: Plan) -> Estimate:
    """Compute the middle block into a temporary folder and extrapolate from it."""
    grid, metadata = planned.grid, planned.metadata
    middle = grid.blocks[len(grid.blocks) // 2]
    with tempfile.TemporaryDirectory(prefix="geosegsr-") as folder:
        (Path(folder) / "blocks").mkdir()
        compute_block(planned, Path(folder), "first", middle.index)  # it pays for loading
        began = time.perf_counter()
        record = compute_block(planned, Path(folder), "second", middle.index)
        took = time.perf_counter() - began
    area = planned.area.window
    share = (area.height * area.width) / (middle.window.height * middle.window.width)
    at_a_time = min(planned.threads, len(grid.blocks))
    return Estimate(
        width=metadata.width,
        height=metadata.height,
        bands=len(metadata.bands),
        dtype=planned.scene.dtype.name,
        blocks=len(grid.blocks),
        tiles=grid.tiles,
        tiles_computed=grid.tiles_computed,
        memory_bytes=planned.memory_bytes,
        disk_bytes=int(sum(file.size for file in record.files.values()) * share * (1 + _COG_TO_BLOCKS)),
        seconds=round(took * share / at_a_time + planned.output_bytes / _COG_BYTES_PER_S, 1),
    )
