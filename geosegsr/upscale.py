"""upscale(): one scene in, one Cloud-Optimized GeoTIFF out."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.assumptions import kept_assumptions, warn
from geosegsr.bandstats import BandStatistics
from geosegsr.blockwork import compute_block
from geosegsr.cog import (
    BlockFile,
    creation_options,
    try_creation_options,
    verify_cog,
    write_cog,
)
from geosegsr.consistency import Residual
from geosegsr.engine import Engine, default_threads, open_engine
from geosegsr.errors import ConfigError, JobError, SceneError
from geosegsr.job import IMAGE, SPREAD, BlockRecord, Job, job_key, source_identity
from geosegsr.metadata import Metadata
from geosegsr.paths import check_path, exists, is_same
from geosegsr.planning import DEFAULT_MODEL
from geosegsr.preflight import Preflight
from geosegsr.runplan import Plan, plan
from geosegsr.scene import AlphaPolicy, read_tag
from geosegsr.scratch import temporary_folder
from geosegsr.upscaler import Upscaler

log = logging.getLogger("geosegsr")

RESULT_KEY_TAG = "GEOSEGSR_RESULT"
"""The result's tag that holds its key."""


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
    """Wall time by stage, and time in blocks (read, model, blend, agree, write) summed over threads."""
    range: str | None = None
    """The range of DN that the model saw."""
    consistency: tuple[dict[str, float | int], ...] = ()
    """How far each image band, reduced as the model's card says, is from the input: mean, RMS and largest difference in
    DN over the input pixels that see nothing but valid ones; empty for an interpolation without `consistency`."""
    uncertainty: str | None = None
    """The COG with the spread of the ensemble."""
    warnings: tuple[str, ...] = ()
    """What was assumed."""
    stac: str | None = None
    """The STAC item beside the COG."""

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
        model: A name, a checkpoint file or an Upscaler; see geosegsr.upscaler.resolve_upscaler.
        workers: Worker processes on this machine; by default threads of this process. They import the script that
            calls this, which so needs `if __name__ == "__main__":` around the call.
        scheduler: Address of a Dask scheduler that exists; the output's folder must be shared with its workers.
        creation: Creation options of GDAL's COG driver, over the defaults in geosegsr.cog.
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
        if target.exists() and not overwrite and not (resume and _may_be_ours(target)):
            raise target_exists(target)
        item = wanted_item(target, str(src), stac=stac, taken=taken, spread=uncertainty)
        task = prepare(
            src, target, scale, model,
            creation=creation, uncertainty=uncertainty, elsewhere=scheduler is not None, **options,
        )  # fmt: skip
        return carry_out(task, engine, overwrite=overwrite, resume=resume, progress=progress, write_item=item)


@dataclass(frozen=True)
class Product:
    """A COG that a run writes."""

    kind: str
    """IMAGE or SPREAD."""
    metadata: Metadata
    """Provenance included, without statistics."""
    dtype: np.dtype[Any]
    creation: Mapping[str, str]
    """All creation options."""
    has_mask: bool
    alpha: AlphaPolicy
    """What a band tagged alpha is."""


@dataclass(frozen=True)
class Task:
    """One scene's way to a COG, planned and not begun."""

    planned: Plan
    target: Path
    spread_target: Path | None
    """The COG for the spread of an ensemble."""
    creation: dict[str, str]
    """All creation options of the target."""
    assumed: tuple[str, ...]
    """What was assumed in planning."""
    seconds: float
    """What planning took."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of the run: what Plan.identity says, and where the spread goes."""
        spread = self.spread_target
        where = {} if spread is None else {"uncertainty": str(spread.absolute())}
        return {**self.planned.identity(), **where}

    @cached_property
    def result_key(self) -> str:
        """Of the result: how a finished one is known again, by whatever version and in whatever blocks it was made."""
        decides = {
            key: value
            for key, value in self.identity.items()
            if key not in ("version", "block", "uncertainty")
        }
        return job_key({**decides, "creation": self.creation})

    @cached_property
    def metadata(self) -> Metadata:
        """Of the result, provenance included, without statistics."""
        planned = self.planned
        tags = {**planned.metadata.tags, **planned.tags(), RESULT_KEY_TAG: self.result_key}
        return replace(planned.metadata, tags=tags)

    @property
    def products(self) -> tuple[Product, ...]:
        """What is to be written: the image, and the spread where it is wanted."""
        planned = self.planned
        image = Product(
            IMAGE, self.metadata, planned.scene.dtype, self.creation, planned.has_mask, planned.alpha
        )
        if self.spread_target is None:
            return (image,)
        spread = planned.spread_metadata
        tagged = replace(spread, tags={**spread.tags, RESULT_KEY_TAG: self.result_key})
        return image, Product(SPREAD, tagged, np.dtype(np.float32), creation_options({}), False, "auto")


def prepare(
    src: str | Path,
    target: Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    creation: Mapping[str, str] | None = None,
    uncertainty: str | Path | None = None,
    **options: Any,
) -> Task:
    """Plan a run; nothing is written. Arguments and errors as in `upscale`."""
    cog_options = creation_options(creation or {})
    spread_target = None if uncertainty is None else Path(uncertainty)
    if spread_target is not None:
        _check_spread_target(spread_target, target, str(src))
    began = time.perf_counter()
    with kept_assumptions() as assumed:
        planned = plan(src, scale, model, spread=spread_target is not None, **options)
    return Task(planned, target, spread_target, cog_options, tuple(assumed), time.perf_counter() - began)


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
    with _timed(seconds, "plan"):
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
            return _report(task, {}, len(planned.grid.blocks), seconds, write_item)
        if target.exists() and not overwrite:
            raise target_exists(target)
        for product_target in job.targets.values():
            _check_beside(product_target)
        if write_item is None and has_item(target):
            warn(f"the STAC item of '{target}' describes the file that is replaced; pass --stac to renew it")
        if task.spread_target is not None and not overwrite:
            _check_spread_exists(task.spread_target, task)
        job.start(task.identity, resume=resume)
        resumed = len(job.done)
        log.info(
            "%s: %d x %d pixels from %s by %s, %d blocks, %d of them from before",
            target, planned.metadata.width, planned.metadata.height, planned.scene.path,
            planned.rendering.upscaler.name, len(planned.grid.blocks), resumed,
        )  # fmt: skip
        _check_disk(planned, job)
        with _timed(seconds, "blocks"):
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
            with _timed(seconds, "cog"):
                full = _with_statistics(product, planned, job)
                write_cog(
                    job.part(product.kind), full, product.dtype, blocks, product.creation,
                    has_mask=product.has_mask,
                )  # fmt: skip
            tell(Progress(total, total, resumed, "verify"))
            with _timed(seconds, "verify"):
                verify_cog(
                    job.part(product.kind), product.metadata, product.dtype, blocks, product.creation,
                    alpha=product.alpha, threads=default_threads(),
                )  # fmt: skip
        records = dict(job.done)
        job.commit(write_item)
    log.info("%s: done; %s", target, ", ".join(f"{stage} {took:.1f} s" for stage, took in seconds.items()))
    return _report(task, records, resumed, seconds, write_item)


def wanted_item(
    target: Path, src: str, *, stac: bool, taken: str | None, spread: str | Path | None = None
) -> Callable[[], Path] | None:
    """What writes the STAC item of a result that stands, and returns its path; None where none is wanted.

    Raises:
        ConfigError: The time is none.
        JobError: The item would replace what is not its own, or its name is too long.
    """
    if not stac:
        if taken is not None:
            raise ConfigError("Cannot use --datetime without an item to put it in: pass --stac as well.")
        return None
    from geosegsr.stac import Taken, check_item_path, write_item

    check_item_path(target, src, None if spread is None else Path(spread))
    return partial(write_item, target, src, None if taken is None else Taken.parse(taken), spread)


def has_item(target: Path) -> bool:
    """Whether the item beside a result is that of this very file."""
    if not (target.exists() and target.with_suffix(".json").exists()):
        return False
    from geosegsr.stac import describes

    return describes(target)


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


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began


def _report(
    task: Task,
    records: Mapping[int, BlockRecord],
    resumed: int,
    seconds: Mapping[str, float],
    write_item: Callable[[], Path] | None,
) -> Report:
    planned, metadata = task.planned, task.metadata
    stages = {"total": sum(seconds.values())} | {
        f"blocks_{s}": sum(r.seconds[s] for r in records.values())
        for s in ("read", "model", "blend", "agree", "write")
    }
    radiometry = planned.rendering.radiometry
    valid = [record.files[IMAGE].valid for record in records.values()]
    residuals = zip(*(record.residuals for record in records.values()), strict=True)
    return Report(
        path=str(task.target),
        stac=None if write_item is None else str(task.target.with_suffix(".json")),
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
        valid_pixels=tuple(np.sum(valid, axis=0).tolist()) if valid else (),
        bytes=task.target.stat().st_size,
        seconds={key: round(value, 3) for key, value in {**seconds, **stages}.items()},
        range=None if radiometry is None else radiometry.describe(),
        consistency=tuple(Residual.of_all(band).to_dict() for band in residuals),
        uncertainty=None if task.spread_target is None else str(task.spread_target),
        warnings=task.assumed,
    )


def check_target(target: Path, src: str) -> None:
    """Refuse a target that cannot be written, whatever the run.

    Raises:
        SceneError: A folder, or in a folder that does not exist or may not be written; a path that cannot be followed.
        JobError: The source itself.
    """
    check_paths(target, src)
    if target.is_dir():
        raise SceneError(f"Cannot write '{target}': it is a folder. Pass -o with a file's name in it.")
    if target.exists() and not target.is_file():
        raise SceneError(f"Cannot write '{target}': it is a device or a pipe. Pass -o with a file's name.")
    if not target.parent.is_dir():
        raise SceneError(
            f"Cannot write '{target}': its folder does not exist. Create it first: mkdir -p '{target.parent}'."
        )
    if exists(src) and target.exists() and target.samefile(src):
        raise JobError(f"Cannot write '{target}': it is the source itself. Pass another -o.")
    if not os.access(target.parent, os.W_OK):
        raise SceneError(
            f"Cannot write '{target}': its folder is read-only. Pass -o in a folder that you may write."
        )


def check_paths(target: Path, src: str) -> None:
    """Refuse what cannot be opened or written because of its name or the way to it.

    Raises:
        SceneError: It is so of the source, the target, or the job's folder, whose name is longer.
    """
    check_path(src)
    check_path(target, "write")
    check_path(Job(target).folder, "write")


def _check_beside(target: Path) -> None:
    """Refuse to write beside what GDAL would take for the result's mask, overviews, nodata or place.

    Raises:
        JobError: There is such a file, of an earlier raster of that name.
    """
    for ending in (".aux.xml", ".msk", ".ovr"):
        beside = target.with_name(target.name + ending)
        if beside.exists():
            raise JobError(
                f"Cannot write '{target}': '{beside.name}' beside it belongs to an earlier file of that name, and GDAL "
                f"would take it for a part of this one. Remove it first: rm '{beside}'."
            )


def target_exists(target: Path) -> JobError:
    """The error of a target that is not to be replaced."""
    return JobError(f"Cannot write '{target}': it exists. Pass --overwrite to replace it, or another -o.")


def _check_spread_target(spread: Path, target: Path, src: str) -> None:
    check_target(spread, src)
    if is_same(spread, target):
        raise ConfigError(
            f"Cannot write the image and its uncertainty to one file '{target}': pass another --uncertainty."
        )
    if spread.parent.stat().st_dev != target.parent.stat().st_dev:
        raise ConfigError(
            f"Cannot write '{spread}': it is not on the file system of '{target}', so that the two could not appear "
            "together. Pass --uncertainty in the same folder."
        )


def _may_be_ours(target: Path) -> bool:
    """Whether a target may be that of this very command, which was stopped before or after it was through."""
    return Job(target).folder.exists() or read_tag(target, RESULT_KEY_TAG) is not None


def is_result(path: Path, task: Task) -> bool:
    """Whether a file is what this task makes, by the key in its tags."""
    return path.exists() and read_tag(path, RESULT_KEY_TAG) == task.result_key


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
