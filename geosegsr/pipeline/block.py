"""One block from the scene to its file: what a worker does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas
from geosegsr.errors import JobError, SceneError, StoreError
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.pipeline.cell import cells_over
from geosegsr.pipeline.job_folder import IMAGE, UNCERTAINTY, band_kind
from geosegsr.pipeline.job_state import BlockKeeper
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.records import BlockRecord, FileRecord
from geosegsr.raster.cog_block import (
    SMALL_BYTES,
    TiledFormat,
    block_bytes,
    check_valid,
    piece_checksum,
    pixel_checksum,
    tiled_block_bytes,
)
from geosegsr.raster.statistics import BandStatistics
from geosegsr.raster.window import Window
from geosegsr.tiling.cache import TileCache, TileMemory
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import render_block

Array: TypeAlias = NDArray[Any]

TILES = TileMemory(256_000_000)  # the tiles along a row of blocks of a scene some 30,000 pixels wide


def compute_block(
    planned: Plan, forms: Mapping[str, TiledFormat], keeper: BlockKeeper, run_id: str, index: int
) -> BlockRecord:
    """As `read_render_write`, with a `MemoryError` turned into a `JobError`."""
    try:
        with single_threaded_blas():  # for workers; in one process the engine holds it already
            return read_render_write(planned, forms, keeper, run_id, index)
    except MemoryError as error:
        raise JobError(
            f"Cannot compute block {index}: out of memory. The finished blocks are kept. Repeat the same command "
            "with fewer --workers, or with --no-resume and a smaller --block or --tile."
        ) from error


def read_render_write(
    planned: Plan, forms: Mapping[str, TiledFormat], keeper: BlockKeeper, run_id: str, index: int
) -> BlockRecord:
    """Read, render and write one block, in any thread or process with access to the source and the keeper's place.

    Args:
        planned: The plan of the run.
        forms: Those kinds of files whose tiles become tiles of a COG.
        keeper: Where the block goes.
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
    (values, valid), alpha = planned.scene.read(window), planned.scene.read_alpha(inner)
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
    fine_wanted = _enlarged(wanted[kept][(slice(None), *core.slices)], planned.scale)
    output, parts = planned.block_windows[index], {}
    for kind, bands in _image_files(planned, len(image)):
        mask = np.any(fine_wanted[bands], axis=0) if planned.has_mask else None
        parts[kind] = _Part(image[bands], fine_wanted[bands], fine_alpha, mask)
    if rendered.uncertainty is not None:
        parts[UNCERTAINTY] = _Part(rendered.uncertainty, fine_wanted)
    files, versions = {}, {}
    for kind, part in parts.items():
        shared = cells_over(output, kind, forms, len(planned.block_windows))
        form = forms.get(kind)
        # Blocks that go into cells are deleted soon. Without nodata, compressing them would save little.
        plain = form is not None and not keeper.is_distant and bool(part.valid.all())
        packed = planned.output_bytes >= SMALL_BYTES and not plain
        data, files[kind] = _encoded(part, planned, form, shared, packed=packed)
        versions[kind] = write_file(keeper, index, kind, data)
    done = time.perf_counter()
    model_s, consistency_s = (counts.seconds.get(stage, 0.0) for stage in ("model", "consistency"))
    record = BlockRecord(
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
    keeper.finish(record, versions)
    return record


def _enlarged(planes: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    """Pixels repeated, (bands, h, w) -> (bands, scale * h, scale * w), to be read only: bands that are alike are one array."""
    if not (planes == planes[0]).all():
        return repeat_pixels(planes, scale)
    one = repeat_pixels(planes[0], scale)
    return np.broadcast_to(one, (len(planes), *one.shape))


def _image_files(planned: Plan, bands: int) -> list[tuple[str, slice]]:
    """The kinds of files of the image, and which of its bands each holds."""
    if not planned.separate:
        return [(IMAGE, slice(0, bands))]
    return [(band_kind(at + 1), slice(at, at + 1)) for at in range(bands)]


def write_file(keeper: BlockKeeper, index: int, kind: str, data: bytes, *, what: str = "") -> str:
    """Write a file of a block, or of `what`.

    Returns:
        As `BlockKeeper.write`.

    Raises:
        JobError: As `BlockKeeper.write`.
        StoreError: The store does not take it.
        SceneError: The folder cannot be written.
    """
    try:
        return keeper.write(index, kind, data)
    except StoreError:
        raise
    except OSError as error:
        raise SceneError(
            f"Cannot write {what or f'block {index}'} to '{keeper.name}': {error.strerror}. The finished blocks are kept. Free some "
            "space or fix the cause, and repeat the same command."
        ) from error


@dataclass(frozen=True)
class _Part:
    """What one file of a block holds."""

    image: Array
    """Shape (bands, h, w)."""
    valid: Array
    """Same shape, True where pixels hold data."""
    alpha: Array | None = None
    """Shape (h, w), as is the next."""
    mask: Array | None = None


def _encoded(
    part: _Part, planned: Plan, form: TiledFormat | None, shared: Mapping[int, Window], *, packed: bool
) -> tuple[bytes, FileRecord]:
    """The bytes of a file, and its record; with what it shares with cells, in its own pixels.

    A file that is no part of a COG is compressed if `packed`.
    """
    values, checksum = _with_alpha(part.image, part.alpha, planned), None
    if form is None or form.cells:
        data = block_bytes(values, part.mask, packed=packed)
    else:
        data = tiled_block_bytes(values, part.mask, form)
    if form is None:
        checksum = pixel_checksum(part.image, part.alpha)
    else:
        seen = part.mask if part.alpha is None else part.alpha > 0
        check_valid(part.image, part.valid, seen, form.nodata)
    return data, FileRecord(
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        checksum=checksum,
        valid=tuple(int(np.count_nonzero(band)) for band in part.valid),
        statistics=tuple(BandStatistics.of(*pair) for pair in zip(part.image, part.valid, strict=True)),
        pieces=tuple(
            (cell, piece_checksum(values[(slice(None), *window.slices)], _cut(part.mask, window)))
            for cell, window in shared.items()
        ),
    )


def _cut(mask: Array | None, window: Window) -> Array | None:
    return None if mask is None else mask[window.slices]


def _with_alpha(image: Array, alpha: Array | None, planned: Plan) -> Array:
    """Insert the alpha band among the output bands."""
    if alpha is None:
        return image
    position = [b.index for b in planned.metadata.bands].index(planned.scene.alpha_band or 0)
    return np.insert(image, position, alpha, axis=0)
