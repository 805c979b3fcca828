"""One block from the scene to its file: what a worker does."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.atomic import whole_file
from geosegsr.bandstats import BandStatistics
from geosegsr.cog import block_bytes, pixel_checksum
from geosegsr.errors import SceneError
from geosegsr.interpolation import repeat_pixels
from geosegsr.job import BlockRecord, block_path
from geosegsr.render import Rendering, output_bands, render_block
from geosegsr.runplan import Plan
from geosegsr.tilecache import TileCache, TileMemory
from geosegsr.upscaler import shared_upscaler

_tiles = TileMemory(256_000_000)  # the tiles along a row of blocks of a scene some 30,000 pixels wide


def compute_block(planned: Plan, folder: Path, run_id: str, index: int) -> BlockRecord:
    """Read, render and write one block; runs in any thread or process that sees source and folder.

    Args:
        planned: The same for all blocks of a run.
        folder: The job's folder.
        run_id: Any text of this run alone; blocks of one run share tiles within a process.
        index: The block's position in the grid.

    Returns:
        A small record: pixels never travel.
    """
    began = time.perf_counter()
    rendering = _loaded(planned)
    block = rendering.grid.blocks[index]
    window = rendering.grid.source_window(block).shifted(planned.region.row, planned.region.col)
    inner = block.window.shifted(planned.region.row, planned.region.col)
    values, valid = planned.scene.read(window)
    alpha = planned.scene.read_alpha(inner)
    area = planned.area.mask(window)
    wanted = valid & area
    read = time.perf_counter()
    image, counts = render_block(rendering, block, values, valid, wanted, TileCache(_tiles, run_id))
    rendered = time.perf_counter()
    core = inner.shifted(-window.row, -window.col)
    kept = list(output_bands(rendering.groups))
    fine_alpha = None
    if alpha is not None and planned.scene.alpha_position is not None:
        fine_alpha = repeat_pixels(np.where(area[core.slices], alpha, 0).astype(alpha.dtype), planned.scale)
    fine_wanted = repeat_pixels(wanted[kept][(slice(None), *core.slices)], planned.scale)
    mask = np.any(fine_wanted, axis=0) if planned.has_mask else None
    data = block_bytes(_with_alpha(image, fine_alpha, planned), mask)
    try:
        with whole_file(block_path(folder, index)) as file:
            file.write(data)
    except OSError as error:
        raise SceneError(
            f"Cannot write block {index} to '{folder}': {error.strerror}. The finished blocks are kept: make room "
            "or mend the cause, and give the same command again."
        ) from error
    done = time.perf_counter()
    model_s = counts.seconds.get("model", 0.0)
    return BlockRecord(
        index=index,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        checksum=pixel_checksum(image, fine_alpha),
        valid=tuple(int(band.sum()) for band in fine_wanted),
        statistics=tuple(BandStatistics.of(*pair) for pair in zip(image, fine_wanted, strict=True)),
        tiles=counts.tiles,
        empty=counts.empty,
        seconds={
            "read": read - began,
            "model": model_s,
            "blend": rendered - read - model_s,
            "write": done - rendered,
        },
    )


def _with_alpha(image: np.ndarray[Any, Any], alpha: np.ndarray[Any, Any] | None, planned: Plan) -> Any:
    """The alpha band put back among the output bands."""
    if alpha is None:
        return image
    position = [b.index for b in planned.metadata.bands].index(planned.scene.alpha_band or 0)
    return np.insert(image, position, alpha, axis=0)


def _loaded(planned: Plan) -> Rendering:
    """The plan's rendering with this process's copy of the model."""
    if not isinstance(planned.model, str):
        return planned.rendering
    upscaler = shared_upscaler(
        planned.model, planned.scale, device=planned.device, precision=planned.precision
    )
    return replace(planned.rendering, upscaler=upscaler)
