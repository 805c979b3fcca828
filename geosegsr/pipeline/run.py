"""A planned task carried out: blocks, COG, verification, and the move into place."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from geosegsr.context import Share, begin, on_step
from geosegsr.cpu import return_freed_memory
from geosegsr.errors import SceneError
from geosegsr.files import exists
from geosegsr.notices import warn
from geosegsr.pipeline import publish
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.progress import BlockProgress
from geosegsr.pipeline.records import BlockRecord
from geosegsr.pipeline.report import Progress, Report, published_report, report_of, timed
from geosegsr.pipeline.retile import check_pieces, compute_cell
from geosegsr.pipeline.standing import is_result, needs_run
from geosegsr.pipeline.targets import has_item, write_item
from geosegsr.pipeline.task import Product, Task
from geosegsr.pipeline.worker_check import Preflight
from geosegsr.raster.cog import write_cog
from geosegsr.raster.cog_block import SMALL_BYTES, BlockFile
from geosegsr.raster.cog_verify import verify_cog
from geosegsr.raster.identity import source_identity
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.statistics import BandStatistics
from geosegsr.workers.engine import Engine, default_threads, open_engine

log = logging.getLogger("geosegsr")

Tell = Callable[[Progress], None]


def carry_out(task: Task, engine: Engine, progress: Tell | None = None) -> Report:
    """Do what was planned, unless it is finished already.

    Args:
        task: The plan and what to write.
        engine: Runs the blocks; it may be at work on other scenes too.
        progress: As in `upscale`.

    Raises:
        GeoSegSRError: As `upscale` and `needs_run`.
    """
    carry = _here if task.published is None else _into_store
    return carry(task, engine, progress or (lambda _: None))


def _into_store(task: Task, engine: Engine, tell: Tell) -> Report:
    """Make the results in local files, as any others, and send them to their store."""
    seconds = {"plan": task.seconds}
    with timed(seconds, "plan"):
        begin("asking the store")
        wanted = needs_run(task)
        publish.check_sidecars(task)
        if not wanted:
            _forget(task.local)  # a killed process may have sent its results and no more
        if not wanted and not publish.item_is_missing(task):
            publish.tidy(task)
            return report_of(task, {}, len(task.planned.grid.blocks), seconds)
        if wanted and not task.request.stac and publish.describes(task):
            _warn_of_old_item(str(task.published))
    staging = task.request.staging
    assert staging is not None
    folders = {path.parent for path in (task.target, *task.targets)}
    for folder in folders:
        staging.make(folder)
    with publish.alone(task):
        if not wanted:
            publish.fetch(task)
        report = _here(task.local, engine, tell)
        tell(_at(task.planned, report.blocks_resumed, "upload"))
        with timed(seconds, "upload"):
            publish.publish(task)
        _forget(task.local)
    for folder in folders:
        staging.clear(folder)
    return published_report(report, task, seconds["upload"], sent=wanted)


def _forget(task: Task) -> None:
    """Delete the state of a run whose results are in their store by now, if it was kept in a store until then."""
    if task.request.kept is not None:
        task.job().forget(task.identity)


def _here(task: Task, engine: Engine, tell: Tell) -> Report:
    seconds = {"plan": task.seconds}
    with timed(seconds, "plan"):
        begin("identifying the source")
        wanted = needs_run(task)
    job = task.job()
    if not wanted and not job.exists():
        return _skip(task, seconds)
    with job:
        if not needs_run(task):  # another process has finished it meanwhile, or did not clear its job away
            report = _skip(task, seconds)
            if task.request.kept is None:
                job.remove_own(task.identity)
            return report
        return _run(task, job, engine, seconds, tell)


def _skip(task: Task, seconds: dict[str, float]) -> Report:
    """A finished result is left untouched; its item is written where it is missing or its time is given."""
    request = task.request
    if request.stac and (request.acquired is not None or not has_item(task.target, task.assets)):
        _write_item(task)
    return report_of(task, {}, len(task.planned.grid.blocks), seconds)


def _run(task: Task, job: Job, engine: Engine, seconds: dict[str, float], tell: Tell) -> Report:
    planned, target = task.planned, task.target
    if not task.request.stac and has_item(target, task.assets):
        _warn_of_old_item(str(target))
    job.start(task.identity, resume=task.request.resume)
    resumed = len(_of_blocks(planned, job))
    log.info(
        "%s: %d x %d pixels from %s by %s on %s in %s, %d blocks, %d of them from before",
        target, planned.metadata.width, planned.metadata.height, planned.scene.path,
        planned.rendering.upscaler.facts.name, planned.computed_on, planned.computed_in, len(planned.grid.blocks), resumed,
    )  # fmt: skip
    _warn_of_full_disk(planned, job)
    with timed(seconds, "blocks"):
        _compute(engine, task, job, tell)
        while not job.fetch():
            _compute(engine, task, job, tell)
    if planned.output_bytes >= SMALL_BYTES:
        return_freed_memory()  # the COG needs other memory than the blocks
    tell(_at(planned, resumed, "source"))
    if source_identity(planned.scene.path, planned.scene.files) != task.identity["source"]:
        raise SceneError(
            f"Cannot finish '{target}': '{planned.scene.path}' changed while it was read. "
            "Repeat the command with --no-resume once the source no longer changes."
        )
    copied: dict[str, int | None] = {}
    with timed(seconds, "cog"), _steps_told(tell, _at(planned, resumed, "cells")):
        _retile(engine, task, job)
    for stage, do in (("cog", _write), ("verify", _verify)):
        at = _at(planned, resumed, stage)
        tell(at)
        with timed(seconds, stage), job.named(), _steps_told(tell, at):
            for product in task.products:
                do(product, task, job, copied)
    tell(_at(planned, resumed, "commit"))
    records = _of_blocks(planned, job)
    made = {product.target: product for product in task.products}
    job.commit(
        lambda path: task.request.overwrite or is_result(made[path]),
        partial(_write_item, task) if task.request.stac else None,
    )
    log.info("%s: done; %s", target, ", ".join(f"{stage} {took:.1f} s" for stage, took in seconds.items()))
    return report_of(task, records, resumed, seconds)


def _warn_of_old_item(target: str) -> None:
    warn(f"the STAC item of '{target}' describes the file that is replaced; pass --stac to renew it")


def _write_item(task: Task) -> None:
    write_item(task.target, task.src, task.request.acquired, task.assets)


def _at(planned: Plan, resumed: int, stage: str) -> Progress:
    """The progress of a run whose blocks are all done."""
    total = len(planned.grid.blocks)
    return Progress(total, total, resumed, stage)


@contextmanager
def _steps_told(tell: Tell, at: Progress) -> Iterator[None]:
    """Tell how far a stage is, while the block runs in this thread."""
    token = on_step.set(lambda share, written: tell(replace(at, share=share, written=written)))
    try:
        yield
    finally:
        on_step.reset(token)


def _write(product: Product, task: Task, job: Job, copied: dict[str, int | None]) -> None:
    """Copy the block files into a COG in the job's folder."""
    blocks, full = _files(task, job, product.kind), _with_statistics(product, task.planned, job)
    copied[product.kind] = write_cog(
        job.part(product.kind), full, product.dtype, blocks, product.creation, task.forms.get(product.kind),
        has_mask=product.has_mask,
    )  # fmt: skip


def _verify(product: Product, task: Task, job: Job, copied: dict[str, int | None]) -> None:
    """Compare the COG in the job's folder with what was computed."""
    verify_cog(
        job.part(product.kind), product.metadata, product.dtype, _files(task, job, product.kind),
        product.creation, alpha=product.alpha, threads=default_threads(), copied=copied[product.kind],
    )  # fmt: skip


def _compute(
    engine: Engine,
    task: Task,
    job: Job,
    tell: Callable[[Progress], None],
) -> None:
    planned = task.planned
    total = len(planned.grid.blocks)
    todo = [block.index for block in planned.grid.blocks if block.index not in job.done]
    progress = BlockProgress(planned, _of_blocks(planned, job), tell)

    def on_done(record: BlockRecord) -> None:
        job.record(record)
        log.debug(
            "%s: block %d done, %d tiles in %.1f s",
            job.target, record.index, record.tiles, sum(record.seconds.values()),
        )  # fmt: skip
        progress.block(record.index)

    if todo:
        sent, keeper = _for_anywhere(planned), job.keeper
        grid = planned.grid
        # Blocks on one diagonal share no tiles. A grid narrower than this would leave threads idle.
        diagonal = min(grid.block_shape) >= default_threads()
        engine.run(
            partial(compute_block, sent, task.forms, keeper, uuid.uuid4().hex),
            todo,
            on_done,
            before=grid.before if diagonal else lambda _: (),
            together=total,
            shared_folder=job.shared_folder,
            check=partial(Preflight.of, sent, keeper),
            on_tile=progress.tiles,
            at_a_time=planned.threads,
        )


def _retile(engine: Engine, task: Task, job: Job) -> None:
    """Make the cells of finished blocks, and delete the blocks that are in cells only.

    Where workers share no folder, all blocks have come here by now, and threads of this process make the cells.
    """
    planned = task.planned
    cells = {cell.index: cell for cell in task.cells}
    todo = [index for index in cells if index not in job.done]
    if not todo:
        return
    share = Share(len(todo))

    def on_done(record: BlockRecord) -> None:
        check_pieces(cells[record.index], record, job.done, job.folder)
        job.record(record)
        cell = cells[record.index]
        for block in cell.blocks:
            if job.is_in_cells(block, cell.kind):
                job.discard(block, cell.kind)
        share.add(1)

    with nullcontext(engine) if job.shared_folder is not None else open_engine() as at_hand:
        at_hand.run(
            partial(compute_cell, planned.block_windows, task.forms, job.folder.absolute(), cells),
            todo,
            on_done,
            together=len(todo),
            shared_folder=job.folder,
            check=partial(Preflight.of, _for_anywhere(planned)),
            at_a_time=planned.threads,
        )


def _of_blocks(planned: Plan, job: Job) -> dict[int, BlockRecord]:
    """The records of finished blocks, without those of cells."""
    return {index: record for index, record in job.done.items() if index < len(planned.block_windows)}


def _for_anywhere(planned: Plan) -> Plan:
    """The plan with an absolute path, for workers with another working directory."""
    scene = planned.scene
    if exists(scene.path):
        scene = replace(scene, path=str(Path(scene.path).absolute()))
    return replace(planned, scene=scene)


def _files(task: Task, job: Job, kind: str) -> list[BlockFile]:
    """What the COG is made of: the cells of that kind, or the blocks."""
    windows = {cell.index: cell.window for cell in task.cells if cell.kind == kind}
    files = []
    for index, window in (windows or dict(enumerate(task.planned.block_windows))).items():
        record = job.done[index].files[kind]
        path = job.block_path(index, kind)
        files.append(BlockFile(path, window, record.checksum, record.valid, record.sha256))
    return files


def _with_statistics(product: Product, planned: Plan, job: Job) -> Metadata:
    """Add statistics from the blocks to a product's metadata; GDAL's own would take longer than writing the COG.

    A scene with ground control points gets none, because GDAL would round the points to four decimals.
    """
    metadata = product.metadata
    if metadata.gcps:
        return metadata
    records = [record.files[product.kind] for _, record in sorted(_of_blocks(planned, job).items())]
    images = [band.index for band in metadata.bands if band.index in planned.kept_bands]
    pixels = metadata.height * metadata.width

    def tags(index: int) -> dict[str, str]:
        if index not in images:
            return {}
        position = images.index(index)
        return BandStatistics.of_all(record.statistics[position] for record in records).tags(pixels)

    bands = tuple(replace(band, tags={**band.tags, **tags(band.index)}) for band in metadata.bands)
    return replace(metadata, bands=bands)


def _warn_of_full_disk(planned: Plan, job: Job) -> None:
    free = shutil.disk_usage(job.folder.parent).free
    if free < planned.output_bytes:
        warn(
            f"'{job.folder.parent}' has {free / 1e6:,.1f} MB free, and the result needs {planned.output_bytes / 1e6:,.1f} MB "
            "before compression. If the disk fills up, the run can be resumed"
        )
