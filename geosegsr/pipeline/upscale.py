"""upscale(): one scene in, one Cloud-Optimized GeoTIFF out."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from geosegsr.errors import JobError, SceneError
from geosegsr.files import exists, temporary_folder
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.notices import warn
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.job import BlockRecord, Job, source_identity
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.report import Progress, Report, report_of, timed
from geosegsr.pipeline.targets import check_beside, check_target, has_item, target_exists, wanted_item
from geosegsr.pipeline.task import Product, Task, is_result, may_be_ours, prepare
from geosegsr.pipeline.worker_check import Preflight
from geosegsr.raster.cog import BlockFile, try_creation_options, verify_cog, write_cog
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.statistics import BandStatistics
from geosegsr.workers.engine import Engine, default_threads, open_engine

log = logging.getLogger("geosegsr")


def upscale(
    src: str | Path,
    dst: str | Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    creation: Mapping[str, str] | None = None,
    stac: bool = False,
    taken: str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    uncertainty: str | Path | None = None,
    **options: Any,
) -> Report:
    """Enlarge a georeferenced raster into a Cloud-Optimized GeoTIFF on the same ground.

    Killed at any moment, the same call goes on where it stopped and ends with the same pixels; where the result stands
    already, it is left as it is.

    Args:
        src: A local path or anything GDAL opens.
        dst: A local path; its folder must exist.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8.
        model: A name, a checkpoint file or an Upscaler; see geosegsr.models.catalogue.resolve_upscaler.
        workers: Worker processes on this machine; by default threads of this process. They import the script that
            calls this, which so needs `if __name__ == "__main__":` around the call.
        scheduler: Address of a Dask scheduler that exists; the output's folder must be shared with its workers.
        creation: Creation options of GDAL's COG driver, over the defaults in geosegsr.raster.cog.
        stac: Whether to write a STAC item beside the result, under its name with .json.
        taken: When the source was taken, for the item: RFC 3339, or two times with a slash between them; by default what
            its tags say.
        overwrite: Whether an existing target may be replaced; it stands until the new one is verified.
        resume: Whether to go on with an unfinished run of the same source, model and options.
        progress: Called after each block and at the start of each later stage.
        uncertainty: A second COG to write, for the spread of the ensemble: standard deviation over its eight members,
            float32 in DN, NaN where there is no data. Needs `ensemble=True`.
        **options: As in `plan`.

    Returns:
        What was done, and where the result is.

    Raises:
        GeoSegSRError: What could not be done. No file is left under the target's name that looks finished.
    """
    target = Path(dst)
    with temporary_folder(target.parent), open_engine(workers, scheduler) as engine:
        check_target(target, str(src))
        if target.exists() and not overwrite and not (resume and may_be_ours(target)):
            raise target_exists(target)
        item = wanted_item(target, str(src), stac=stac, taken=taken, spread=uncertainty)
        task = prepare(
            src, target, scale, model,
            creation=creation, uncertainty=uncertainty, elsewhere=scheduler is not None, **options,
        )  # fmt: skip
        return carry_out(task, engine, overwrite=overwrite, resume=resume, progress=progress, write_item=item)


def carry_out(
    task: Task,
    engine: Engine,
    *,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    write_item: Callable[[], Path] | None = None,
) -> Report:
    """Do what was planned, on an engine that may be at work on other scenes too. See `upscale` and `wanted_item`."""
    planned, target = task.planned, task.target
    tell = progress or (lambda _: None)
    seconds = {"plan": task.seconds}
    with timed(seconds, "plan"):
        for product in task.products:
            try_creation_options(
                product.creation, product.metadata, product.dtype,
                has_mask=product.has_mask, alpha=product.alpha,
            )  # fmt: skip
    with Job(target, task.spread_target) as job:
        made_meanwhile = not overwrite and not job.begun and is_result(target, task)
        if resume and (made_meanwhile or job.finished_before(task.identity)):
            if write_item is not None:
                write_item()
            job.remove()
            return report_of(task, {}, len(planned.grid.blocks), seconds, write_item)
        if target.exists() and not overwrite:
            raise target_exists(target)
        for product_target in job.targets.values():
            check_beside(product_target)
        if write_item is None and has_item(target):
            warn(f"the STAC item of '{target}' describes the file that is replaced; pass --stac to renew it")
        if task.spread_target is not None and not overwrite:
            _check_spread_exists(task.spread_target, task)
        job.start(task.identity, resume=resume)
        resumed = len(job.done)
        log.info(
            "%s: %d x %d pixels from %s by %s, %d blocks, %d of them from before",
            target, planned.metadata.width, planned.metadata.height, planned.scene.path,
            planned.rendering.upscaler.facts.name, len(planned.grid.blocks), resumed,
        )  # fmt: skip
        _check_disk(planned, job)
        with timed(seconds, "blocks"):
            _compute(engine, planned, job, tell)
        if source_identity(planned.scene.path, planned.scene.files) != task.identity["source"]:
            raise SceneError(
                f"Cannot finish '{target}': '{planned.scene.path}' changed while it was read. "
                "Give the command again with --no-resume once the source stands still."
            )
        total = len(planned.grid.blocks)
        for product in task.products:
            blocks = _block_files(planned, job, product.kind)
            tell(Progress(total, total, resumed, "cog"))
            with timed(seconds, "cog"):
                full = _with_statistics(product, planned, job)
                write_cog(
                    job.part(product.kind), full, product.dtype, blocks, product.creation,
                    has_mask=product.has_mask,
                )  # fmt: skip
            tell(Progress(total, total, resumed, "verify"))
            with timed(seconds, "verify"):
                verify_cog(
                    job.part(product.kind), product.metadata, product.dtype, blocks, product.creation,
                    alpha=product.alpha, threads=default_threads(),
                )  # fmt: skip
        records = dict(job.done)
        job.commit(write_item)
    log.info("%s: done; %s", target, ", ".join(f"{stage} {took:.1f} s" for stage, took in seconds.items()))
    return report_of(task, records, resumed, seconds, write_item)


def _compute(
    engine: Engine,
    planned: Plan,
    job: Job,
    tell: Callable[[Progress], None],
) -> None:
    total, resumed = len(planned.grid.blocks), len(job.done)
    todo = [block.index for block in planned.grid.blocks if block.index not in job.done]
    tell(Progress(resumed, total, resumed, "blocks"))

    def on_done(record: BlockRecord) -> None:
        job.record(record)
        log.debug(
            "%s: block %d done, %d tiles in %.1f s",
            job.target, record.index, record.tiles, sum(record.seconds.values()),
        )  # fmt: skip
        tell(Progress(len(job.done), total, resumed, "blocks"))

    if todo:
        sent = _for_anywhere(planned)
        grid = planned.grid
        # Blocks of one diagonal share no tiles. A grid that is narrower than this would leave threads without work.
        diagonal = min(grid.block_shape) >= default_threads()
        engine.run(
            partial(compute_block, sent, job.folder.absolute(), uuid.uuid4().hex),
            todo,
            on_done,
            before=grid.before if diagonal else lambda _: (),
            together=total,
            shared_folder=job.folder,
            check=partial(Preflight.of, sent),
        )


def _for_anywhere(planned: Plan) -> Plan:
    """The plan with an absolute path, for workers that run in another folder."""
    scene = planned.scene
    if exists(scene.path):
        scene = replace(scene, path=str(Path(scene.path).absolute()))
    return replace(planned, scene=scene)


def _block_files(planned: Plan, job: Job, kind: str) -> list[BlockFile]:
    area = planned.area.window
    files = []
    for block in planned.grid.blocks:
        window = block.window.shifted(planned.region.row - area.row, planned.region.col - area.col)
        record = job.done[block.index].files[kind]
        path = job.block_path(block.index, kind)
        files.append(BlockFile(path, window.scaled(planned.scale), record.checksum, record.valid))
    return files


def _with_statistics(product: Product, planned: Plan, job: Job) -> Metadata:
    """A product's metadata with statistics from the blocks: GDAL's own take longer than all the rest of writing a COG.

    None beside ground control points: a COG with both has the points rounded to four decimals.
    """
    metadata = product.metadata
    if metadata.gcps:
        return metadata
    records = [job.done[i].files[product.kind] for i in sorted(job.done)]
    images = planned.kept_bands
    pixels = metadata.height * metadata.width

    def tags(index: int) -> dict[str, str]:
        if index not in images:
            return {}
        position = images.index(index)
        return BandStatistics.of_all(record.statistics[position] for record in records).tags(pixels)

    bands = tuple(replace(band, tags={**band.tags, **tags(band.index)}) for band in metadata.bands)
    return replace(metadata, bands=bands)


def _check_spread_exists(spread: Path, task: Task) -> None:
    """Refuse to replace it, unless it is there because a run was stopped before it put the image beside it."""
    if spread.exists() and not is_result(spread, task):
        raise JobError(
            f"Cannot write '{spread}': it exists. Pass --overwrite to replace it, or another --uncertainty."
        )


def _check_disk(planned: Plan, job: Job) -> None:
    free = shutil.disk_usage(job.folder).free
    if free < planned.output_bytes:
        warn(
            f"'{job.folder.parent}' has {free / 1e6:,.1f} MB free, and the result has {planned.output_bytes / 1e6:,.1f} MB "
            "before compression: the disk may fill up; a run that it stops can be resumed"
        )
