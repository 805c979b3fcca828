"""upscale(): one scene in, one Cloud-Optimized GeoTIFF out."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr import __version__
from geosegsr.aoi import Area, area_from_bbox, area_from_geometry, area_from_window
from geosegsr.bands import OtherBands
from geosegsr.bandstats import BandStatistics
from geosegsr.cog import (
    BlockFile,
    block_bytes,
    creation_options,
    pixel_checksum,
    try_creation_options,
    verify_cog,
    write_cog,
)
from geosegsr.engine import default_threads, run
from geosegsr.errors import ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.job import BlockRecord, Job, block_path, source_identity, write_atomically
from geosegsr.metadata import Metadata
from geosegsr.planning import DEFAULT_MODEL, check_scale, plan_rendering, warn
from geosegsr.radiometry import working_dtype
from geosegsr.render import Rendering, output_bands, render_block
from geosegsr.scene import AlphaPolicy, Scene
from geosegsr.tilecache import TileCache
from geosegsr.upscaler import Upscaler, shared_upscaler
from geosegsr.windows import TileGrid, Window

log = logging.getLogger("geosegsr")

_TILE_CACHE_BYTES = 256_000_000  # the tiles along a row of blocks of a scene some 30,000 pixels wide
_SYNTHETIC = (
    "Detail finer than the source's pixels was made by the model from what such scenes look like; "
    "it was not measured."
)


@dataclass(frozen=True)
class Plan:
    """Everything about a run that is known before a pixel is computed."""

    scene: Scene
    """The input."""
    area: Area
    """The part of it that is wanted, all of it by default."""
    region: Window
    """The pixels that may be read: the area with some context around it."""
    rendering: Rendering
    """Grid, model, bands and radiometry."""
    model: str | Upscaler
    """What the workers load the model from."""
    device: str
    precision: str

    @property
    def scale(self) -> int:
        return self.rendering.upscaler.scale

    @property
    def grid(self) -> TileGrid:
        return self.rendering.grid

    @property
    def has_mask(self) -> bool:
        """Whether the output carries a mask: the input does, or what lies outside the area has no other mark."""
        marked = self.scene.nodata is not None or self.scene.alpha_position is not None
        return (
            self.scene.has_mask
            or (self.scene.alpha_band is not None and self.scene.alpha_position is None)
            or (self.area.polygon is not None and not marked)
        )

    @property
    def alpha(self) -> AlphaPolicy:
        """What a band tagged alpha is in the output."""
        return "image" if self.scene.alpha_band is None else "mask"

    @property
    def threads(self) -> int:
        """Blocks computed at a time in one process."""
        return default_threads() if self.rendering.upscaler.concurrent else 1

    @property
    def metadata(self) -> Metadata:
        """Of the output, without provenance."""
        kept = {self.scene.image_bands[b] for b in output_bands(self.rendering.groups)}
        scaled = self.scene.metadata.scaled(self.scale, self.area.window)
        bands = tuple(b for b in scaled.bands if b.index in kept or b.index == self.scene.alpha_band)
        return replace(scaled, bands=bands)

    @property
    def output_bytes(self) -> int:
        """Size of the output's pixels, uncompressed."""
        metadata = self.metadata
        return metadata.height * metadata.width * len(metadata.bands) * self.scene.dtype.itemsize

    @property
    def memory_bytes(self) -> int:
        """A rough upper bound for one process: libraries, and the blocks in flight."""
        rendering, grid = self.rendering, self.grid
        block = max((b.window for b in grid.blocks), key=lambda w: w.height * w.width)
        pixels = block.height * block.width * self.scale**2
        together = max(len(group.bands) for group in rendering.groups)
        work = working_dtype(self.scene.dtype, rendering.upscaler.linear).itemsize
        tiles = grid.rows.tile * grid.cols.tile * self.scale**2 * rendering.upscaler.batch
        one = pixels * (together * work * 3 + len(self.metadata.bands) * self.scene.dtype.itemsize * 3)
        return 300_000_000 + self.threads * (one + 3 * tiles * together * work)

    def tags(self) -> dict[str, str]:
        """Provenance for the output."""
        upscaler, rendering = self.rendering.upscaler, self.rendering
        options = {
            "tile": self.grid.rows.tile,
            "overlap": self.grid.rows.overlap,
            "bands": [self.scene.image_bands[b] for b in output_bands(rendering.groups)],
            "window": [
                self.area.window.col,
                self.area.window.row,
                self.area.window.width,
                self.area.window.height,
            ],
        }
        through = {g.through for g in rendering.groups}
        if through != {"model"}:
            options["through"] = {
                str(self.scene.image_bands[b]): g.through for g in rendering.groups for b in g.bands
            }
        tags = {
            "GEOSEGSR_VERSION": __version__,
            "GEOSEGSR_MODEL": upscaler.name,
            "GEOSEGSR_MODEL_HASH": upscaler.fingerprint,
            "GEOSEGSR_SCALE": str(upscaler.scale),
            "GEOSEGSR_OPTIONS": json.dumps(options),
            "GEOSEGSR_NOTE": _SYNTHETIC,
        }
        if rendering.radiometry is not None:
            tags["GEOSEGSR_RANGE"] = rendering.radiometry.describe()
        return tags

    def identity(self) -> dict[str, Any]:
        """All that decides the pixels and how they are cut into blocks; the key of a resumable job."""
        rendering = self.rendering
        polygon = self.area.polygon
        return {
            "version": __version__,
            "source": source_identity(self.scene.path),
            "model": rendering.upscaler.fingerprint,
            "scale": self.scale,
            "device": self.device,
            "precision": self.precision,
            "bands": [[*g.bands, g.through, g.guide] for g in rendering.groups],
            "source_bands": [*self.scene.image_bands, self.scene.alpha_band, self.scene.alpha_position],
            "nodata": str(self.scene.nodata),
            "range": None
            if rendering.radiometry is None
            else [rendering.radiometry.lo, rendering.radiometry.hi],
            "tile": [self.grid.rows.tile, self.grid.cols.tile],
            "overlap": [self.grid.rows.overlap, self.grid.cols.overlap],
            "block": self.grid.block,
            "window": asdict(self.area.window),
            "polygon": None if polygon is None else hashlib.sha256(polygon).hexdigest(),
        }


@dataclass(frozen=True)
class Report:
    """What a run did."""

    path: str
    """The finished COG."""
    width: int
    height: int
    bands: int
    dtype: str
    scale: int
    model: str
    blocks: int
    """Blocks of the output."""
    blocks_resumed: int
    """Blocks that an earlier, interrupted run had finished."""
    tiles: int
    """Different tiles, in each group of bands that goes through the model together."""
    tiles_computed: int
    """Tiles computed; above `tiles` where blocks that share a tile were in different processes or far apart."""
    tiles_empty: int
    """Tiles skipped because they hold nothing valid."""
    valid_pixels: tuple[int, ...]
    """Valid output pixels of each image band."""
    bytes: int
    """Size of the COG."""
    seconds: dict[str, float]
    """Wall time by stage, and time in blocks (read, model, blend, write) summed over threads."""
    range: str | None = None
    """The range of DN that the model saw."""
    warnings: tuple[str, ...] = ()
    """What was assumed."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    done: int
    """Blocks finished, those of an earlier run included."""
    total: int
    """Blocks in all."""
    resumed: int
    """Blocks of an earlier run."""
    stage: str
    """"blocks", "cog" or "verify"."""


def plan(
    src: str | Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    bands: Sequence[int] | None = None,
    other_bands: OtherBands | None = None,
    nodata: float | None = None,
    alpha: AlphaPolicy = "auto",
    range: tuple[float, float] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    block: int | None = None,
    aoi: str | Path | None = None,
    bbox: Sequence[float] | None = None,
    aoi_crs: str | None = None,
    window: Sequence[int] | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Plan:
    """Work out what `upscale` with the same arguments would do; nothing is computed or written.

    Raises:
        GeoSegSRError: What cannot be done, and what to do about it.
    """
    check_scale(scale)
    scene = Scene.open(src, bands, nodata, alpha)
    if scene.metadata.crs is None and scene.metadata.gcps_crs is None and not scene.metadata.rpcs:
        warn(f"'{scene.path}' has no coordinate reference system; neither will the result")
    if scene.alpha_looks_like_image:
        kind = "a mask, as you said" if scene.alpha_band is not None else "an image, such as near infrared"
        warn(f"the band of '{scene.path}' that is tagged alpha holds more than mask values: taken as {kind}")
    model = str(model) if isinstance(model, Path) else model
    upscaler = shared_upscaler(model, scale, device=device, precision=precision)
    area = _area(scene, aoi, bbox, aoi_crs, window)
    rendering, region = plan_rendering(
        scene,
        upscaler,
        area.window,
        other_bands=other_bands,
        range=range,
        tile=tile,
        overlap=overlap,
        block=block,
    )
    return Plan(scene, area, region, rendering, model, device, precision)


def upscale(
    src: str | Path,
    dst: str | Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    creation: Mapping[str, str] | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Report:
    """Enlarge a georeferenced raster into a Cloud-Optimized GeoTIFF on the same ground.

    Killed at any moment, the same call goes on where it stopped and ends with the same pixels.

    Args:
        src: A local path or anything GDAL opens.
        dst: A local path; its folder must exist.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8.
        model: A name, a checkpoint file or an Upscaler; see geosegsr.upscaler.resolve_upscaler.
        workers: Worker processes on this machine; by default threads of this process. They import the script that
            calls this, which so needs `if __name__ == "__main__":` around the call.
        scheduler: Address of a Dask scheduler that exists; the output's folder must be shared with its workers.
        creation: Creation options of GDAL's COG driver, over the defaults in geosegsr.cog.
        overwrite: Whether an existing target may be replaced; it stands until the new one is verified.
        resume: Whether to go on with an unfinished run of the same source, model and options.
        progress: Called after each block and at the start of each later stage.
        **options: As in `plan`.

    Returns:
        What was done, and where the result is.

    Raises:
        GeoSegSRError: What could not be done. No file is left under the target's name that looks finished.
    """
    began = time.perf_counter()
    target = Path(dst)
    _check_target(target, str(src), overwrite=overwrite, resume=resume)
    _check_engine(workers, scheduler)
    cog_options = creation_options(creation or {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GeoSegSRWarning)
        planned = plan(src, scale, model, **options)
    for message in caught:
        warnings.warn_explicit(message.message, message.category, message.filename, message.lineno)
    metadata = replace(planned.metadata, tags={**planned.metadata.tags, **planned.tags()})
    try_creation_options(
        cog_options, metadata, planned.scene.dtype, has_mask=planned.has_mask, alpha=planned.alpha
    )
    identity = planned.identity()
    seconds = {"plan": time.perf_counter() - began}
    with Job(target) as job:
        if resume and job.finished_before(identity):
            job.remove()
            return _report(planned, target, {}, len(planned.grid.blocks), seconds, caught)
        if target.exists() and not overwrite:
            raise _exists(target)
        job.start(identity, resume=resume)
        resumed = len(job.done)
        _check_disk(planned, job)
        _compute(planned, job, workers, scheduler, progress, seconds)
        if source_identity(planned.scene.path) != identity["source"]:
            raise SceneError(
                f"Cannot finish '{target}': '{planned.scene.path}' changed while it was read. "
                "Give the command again with --no-resume once the source stands still."
            )
        blocks = _block_files(planned, job)
        _timed(seconds, "cog", partial(_finalize, job, metadata, planned, blocks, cog_options, progress))
        _timed(seconds, "verify", partial(_verify, job, metadata, planned, blocks, cog_options, progress))
        records = dict(job.done)
        job.commit()
    return _report(planned, target, records, resumed, seconds, caught)


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
    image, counts = render_block(rendering, block, values, valid, wanted, _tile_cache(run_id))
    rendered = time.perf_counter()
    core = inner.shifted(-window.row, -window.col)
    kept = list(output_bands(rendering.groups))
    fine_alpha = None
    if alpha is not None and planned.scene.alpha_position is not None:
        fine_alpha = _enlarge(np.where(area[core.slices], alpha, 0).astype(alpha.dtype), planned.scale)
    mask = None
    if planned.has_mask:
        mask = _enlarge(np.any(wanted[kept][(slice(None), *core.slices)], axis=0), planned.scale)
    data = block_bytes(_with_alpha(image, fine_alpha, planned), mask)
    try:
        write_atomically(block_path(folder, index), data)
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
        valid=tuple(int(wanted[band][core.slices].sum()) * planned.scale**2 for band in kept),
        statistics=tuple(
            BandStatistics.of(fine, _enlarge(wanted[band][core.slices], planned.scale))
            for band, fine in zip(kept, image, strict=True)
        ),
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


def _enlarge(array: Any, scale: int) -> Any:
    return np.repeat(np.repeat(array, scale, axis=0), scale, axis=1)


_caches: dict[str, TileCache] = {}
_caches_lock = threading.Lock()


def _tile_cache(run_id: str) -> TileCache:
    """The cache of a run in this process; that of an earlier run is let go."""
    with _caches_lock:
        if run_id not in _caches:
            _caches.clear()
            _caches[run_id] = TileCache(_TILE_CACHE_BYTES)
        return _caches[run_id]


def _loaded(planned: Plan) -> Rendering:
    """The plan's rendering with this process's copy of the model."""
    if not isinstance(planned.model, str):
        return planned.rendering
    upscaler = shared_upscaler(
        planned.model, planned.scale, device=planned.device, precision=planned.precision
    )
    return replace(planned.rendering, upscaler=upscaler)


def _compute(
    planned: Plan,
    job: Job,
    workers: int | None,
    scheduler: str | None,
    progress: Callable[[Progress], None] | None,
    seconds: dict[str, float],
) -> None:
    total, resumed = len(planned.grid.blocks), len(job.done)
    todo = [block.index for block in planned.grid.blocks if block.index not in job.done]
    tell = progress or (lambda _: None)
    tell(Progress(resumed, total, resumed, "blocks"))

    def on_done(record: BlockRecord) -> None:
        job.record(record)
        tell(Progress(len(job.done), total, resumed, "blocks"))

    if todo:
        sent = planned if scheduler is None else _for_anywhere(planned)
        work = partial(compute_block, sent, job.folder.absolute(), uuid.uuid4().hex)
        call = partial(
            run,
            work,
            todo,
            on_done,
            workers=workers,
            scheduler=scheduler,
            threads=planned.threads,
            shared_folder=job.folder,
        )
        _timed(seconds, "blocks", call)


def _for_anywhere(planned: Plan) -> Plan:
    """The plan with absolute paths, for workers that run in another folder."""
    scene, model = planned.scene, planned.model
    if Path(scene.path).exists():
        scene = replace(scene, path=str(Path(scene.path).absolute()))
    if isinstance(model, str) and model != planned.rendering.upscaler.name:
        model = str(Path(model).absolute())
    return replace(planned, scene=scene, model=model)


def _block_files(planned: Plan, job: Job) -> list[BlockFile]:
    area = planned.area.window
    files = []
    for block in planned.grid.blocks:
        window = block.window.shifted(planned.region.row - area.row, planned.region.col - area.col)
        record = job.done[block.index]
        path = job.block_path(block.index)
        files.append(BlockFile(path, window.scaled(planned.scale), record.checksum, record.valid))
    return files


def _finalize(
    job: Job,
    metadata: Metadata,
    planned: Plan,
    blocks: list[BlockFile],
    options: Mapping[str, str],
    progress: Callable[[Progress], None] | None,
) -> None:
    if progress is not None:
        progress(Progress(len(blocks), len(blocks), 0, "cog"))
    job.part.unlink(missing_ok=True)
    metadata = _with_statistics(metadata, planned, job)
    write_cog(job.part, metadata, planned.scene.dtype, blocks, options, has_mask=planned.has_mask)


def _with_statistics(metadata: Metadata, planned: Plan, job: Job) -> Metadata:
    """Statistics from the blocks: GDAL's own take longer than all the rest of writing a COG.

    None beside ground control points: a COG with both has the points rounded to four decimals.
    """
    if metadata.gcps:
        return metadata
    images = [planned.scene.image_bands[b] for b in output_bands(planned.rendering.groups)]
    pixels = metadata.height * metadata.width

    def tags(index: int) -> dict[str, str]:
        if index not in images:
            return {}
        position = images.index(index)
        return BandStatistics.of_all(job.done[i].statistics[position] for i in sorted(job.done)).tags(pixels)

    bands = tuple(replace(band, tags={**band.tags, **tags(band.index)}) for band in metadata.bands)
    return replace(metadata, bands=bands)


def _verify(
    job: Job,
    metadata: Metadata,
    planned: Plan,
    blocks: list[BlockFile],
    options: Mapping[str, str],
    progress: Callable[[Progress], None] | None,
) -> None:
    if progress is not None:
        progress(Progress(len(blocks), len(blocks), 0, "verify"))
    verify_cog(
        job.part,
        metadata,
        planned.scene.dtype,
        blocks,
        options,
        alpha=planned.alpha,
        threads=default_threads(),
    )


def _timed(seconds: dict[str, float], stage: str, call: Callable[[], None]) -> None:
    began = time.perf_counter()
    call()
    seconds[stage] = time.perf_counter() - began


def _report(
    planned: Plan,
    target: Path,
    records: Mapping[int, BlockRecord],
    resumed: int,
    seconds: Mapping[str, float],
    caught: Sequence[warnings.WarningMessage],
) -> Report:
    metadata = planned.metadata
    stages = {"total": sum(seconds.values())} | {
        f"blocks_{s}": sum(r.seconds[s] for r in records.values())
        for s in ("read", "model", "blend", "write")
    }
    radiometry = planned.rendering.radiometry
    return Report(
        path=str(target),
        width=metadata.width,
        height=metadata.height,
        bands=len(metadata.bands),
        dtype=planned.scene.dtype.name,
        scale=planned.scale,
        model=planned.rendering.upscaler.name,
        blocks=len(planned.grid.blocks),
        blocks_resumed=resumed,
        tiles=planned.grid.tiles * len(planned.rendering.groups),
        tiles_computed=sum(r.tiles for r in records.values()),
        tiles_empty=sum(r.empty for r in records.values()),
        valid_pixels=tuple(np.sum([r.valid for r in records.values()], axis=0).tolist()) if records else (),
        bytes=target.stat().st_size,
        seconds={key: round(value, 3) for key, value in {**seconds, **stages}.items()},
        range=None if radiometry is None else radiometry.describe(),
        warnings=tuple(str(message.message) for message in caught),
    )


def _area(
    scene: Scene,
    aoi: str | Path | None,
    bbox: Sequence[float] | None,
    crs: str | None,
    window: Sequence[int] | None,
) -> Area:
    if sum(item is not None for item in (aoi, bbox, window)) > 1:
        raise ConfigError("Cannot combine areas: pass only one of --aoi, --bbox and --window.")
    if crs is not None and aoi is None and bbox is None:
        raise ConfigError("Cannot use --aoi-crs without an area in it: pass --aoi or --bbox as well.")
    if aoi is not None:
        return area_from_geometry(scene, aoi, crs)
    if bbox is not None:
        return area_from_bbox(scene, bbox, crs)
    if window is not None:
        return area_from_window(scene, window)
    return Area(scene.window)


def _check_engine(workers: int | None, scheduler: str | None) -> None:
    if workers is not None and scheduler is not None:
        raise ConfigError(
            "Cannot use both --workers and --scheduler: a scheduler has workers of its own. Pass one."
        )
    if workers is not None and workers < 1:
        raise ConfigError(
            f"Cannot work with {workers} workers: pass --workers with at least 1, or leave it out."
        )


def _check_target(target: Path, src: str, *, overwrite: bool, resume: bool) -> None:
    if target.is_dir():
        raise SceneError(f"Cannot write '{target}': it is a folder. Pass -o with a file's name in it.")
    if not target.parent.is_dir():
        raise SceneError(
            f"Cannot write '{target}': its folder does not exist. Create it first: mkdir -p '{target.parent}'."
        )
    if Path(src).exists() and target.exists() and target.samefile(src):
        raise JobError(f"Cannot write '{target}': it is the source itself. Pass another -o.")
    unfinished = target.with_name(target.name + ".geosegsr").exists()
    if target.exists() and not overwrite and not (resume and unfinished):
        raise _exists(target)
    if not os.access(target.parent, os.W_OK):
        raise SceneError(
            f"Cannot write '{target}': its folder is read-only. Pass -o in a folder that you may write."
        )


def _exists(target: Path) -> JobError:
    return JobError(f"Cannot write '{target}': it exists. Pass --overwrite to replace it, or another -o.")


def _check_disk(planned: Plan, job: Job) -> None:
    free = shutil.disk_usage(job.folder).free
    if free < planned.output_bytes:
        warn(
            f"'{job.folder.parent}' has {free / 1e6:,.1f} MB free, and the result has {planned.output_bytes / 1e6:,.1f} MB "
            "before compression: the disk may fill up; a run that it stops can be resumed"
        )
