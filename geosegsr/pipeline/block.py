"""One block from the scene to its file: what a worker does."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas
from geosegsr.errors import JobError, SceneError
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.pipeline.job_folder import IMAGE, UNCERTAINTY, band_kind, write_block
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.records import BlockRecord, FileRecord
from geosegsr.raster.cog import SMALL_BYTES, block_bytes, pixel_checksum
from geosegsr.raster.statistics import BandStatistics
from geosegsr.tiling.cache import TileCache, TileMemory
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import render_block

Array: TypeAlias = NDArray[Any]

TILES = TileMemory(256_000_000)  # the tiles along a row of blocks of a scene some 30,000 pixels wide


def compute_block(planned: Plan, folder: Path, run_id: str, index: int) -> BlockRecord:
    """As `read_render_write`, with a `MemoryError` turned into a `JobError`."""
    try:
        with single_threaded_blas():  # for workers; in one process the engine holds it already
            return read_render_write(planned, folder, run_id, index)
    except MemoryError as error:
        raise JobError(
            f"Cannot compute block {index}: out of memory. The finished blocks are kept. Repeat the same command "
            "with fewer --workers, or with --no-resume and a smaller --block or --tile."
        ) from error


def read_render_write(planned: Plan, folder: Path, run_id: str, index: int) -> BlockRecord:
    """Read, render and write one block, in any thread or process with access to the source and the folder.

    Args:
        planned: The plan of the run.
        folder: The job's folder.
        run_id: Identifies the run; its blocks share tiles within a process.
        index: The block's position in the grid.

    Returns:
        A small record; pixels stay in the file.
    """
    began = time.perf_counter()
    rendering = planned.rendering
    block = rendering.grid.blocks[index]
    window = rendering.grid.source_window(block).shifted(planned.region.row, planned.region.col)
    inner = block.window.shifted(planned.region.row, planned.region.col)
    values, valid = planned.scene.read(window)
    alpha = planned.scene.read_alpha(inner)
    area = planned.area.mask(window)
    wanted = valid & area
    read = time.perf_counter()
    rendered = render_block(rendering, block, values, valid, wanted, TileCache(TILES, run_id))
    image, counts = rendered.image, rendered.counts
    blended = time.perf_counter()
    core = inner.shifted(-window.row, -window.col)
    kept = list(output_bands(rendering.groups))
    fine_alpha = None
    if alpha is not None and planned.scene.alpha_position is not None:
        fine_alpha = repeat_pixels(np.where(area[core.slices], alpha, 0).astype(alpha.dtype), planned.scale)
    fine_wanted = repeat_pixels(wanted[kept][(slice(None), *core.slices)], planned.scale)
    packed = planned.output_bytes >= SMALL_BYTES
    files = {}
    for kind, bands in _image_files(planned, len(image)):
        mask = np.any(fine_wanted[bands], axis=0) if planned.has_mask else None
        data = block_bytes(_with_alpha(image[bands], fine_alpha, planned), mask, packed=packed)
        _write(folder, index, kind, data)
        files[kind] = _record(data, image[bands], fine_alpha, fine_wanted[bands])
    if rendered.uncertainty is not None:
        data = block_bytes(rendered.uncertainty, None, packed=packed)
        _write(folder, index, UNCERTAINTY, data)
        files[UNCERTAINTY] = _record(data, rendered.uncertainty, None, fine_wanted)
    done = time.perf_counter()
    model_s, consistency_s = (counts.seconds.get(stage, 0.0) for stage in ("model", "consistency"))
    return BlockRecord(
        index=index,
        files=files,
        residuals=rendered.residuals,
        tiles=counts.tiles,
        empty=counts.empty,
        seconds={
            "read": read - began,
            "model": model_s,
            "consistency": consistency_s,
            "blend": blended - read - model_s - consistency_s,
            "write": done - blended,
        },
    )


def _image_files(planned: Plan, bands: int) -> list[tuple[str, slice]]:
    """The kinds of files of the image, and which of its bands each holds."""
    if not planned.separate:
        return [(IMAGE, slice(0, bands))]
    return [(band_kind(at + 1), slice(at, at + 1)) for at in range(bands)]


def _write(folder: Path, index: int, kind: str, data: bytes) -> None:
    try:
        write_block(folder, index, kind, data)
    except OSError as error:
        raise SceneError(
            f"Cannot write block {index} to '{folder}': {error.strerror}. The finished blocks are kept. Free some "
            "space or fix the cause, and repeat the same command."
        ) from error


def _record(data: bytes, values: Array, alpha: Array | None, valid: Array) -> FileRecord:
    """The record of a file with these bytes; image bands and their validity, shape (bands, h, w)."""
    return FileRecord(
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        checksum=pixel_checksum(values, alpha),
        valid=tuple(int(np.count_nonzero(band)) for band in valid),
        statistics=tuple(BandStatistics.of(*pair) for pair in zip(values, valid, strict=True)),
    )


def _with_alpha(image: Array, alpha: Array | None, planned: Plan) -> Array:
    """Insert the alpha band among the output bands."""
    if alpha is None:
        return image
    position = [b.index for b in planned.metadata.bands].index(planned.scene.alpha_band or 0)
    return np.insert(image, position, alpha, axis=0)
