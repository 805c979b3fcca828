"""What a run did, and its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geosegsr.context import on_stage
from geosegsr.pipeline.job_folder import UNCERTAINTY
from geosegsr.pipeline.records import BlockRecord
from geosegsr.pipeline.sensing import ASSUMED
from geosegsr.pipeline.standing import size_of
from geosegsr.pipeline.task import Task
from geosegsr.sensor.consistency import Residual
from geosegsr.sharpening.stack import sharpened_parts

Status = Literal["done", "skipped"]


@dataclass(frozen=True)
class Report:
    """What a run did."""

    path: str
    """The finished COG; where each band became one, the name that theirs are made of."""
    status: Status
    """"done", or "skipped" because the result was finished already."""
    width: int
    height: int
    bands: int
    dtype: str
    scale: int
    model: str
    device: str
    """What the model computed on: "cpu" or "cuda"."""
    precision: str
    """What it computed in: "fp32", "bf16", "fp16" or "fp64"."""
    blocks: int
    """Blocks of the output."""
    blocks_resumed: int
    """Blocks that an earlier, interrupted run had finished."""
    tiles: int
    """Distinct tiles, counted for each group of bands that goes through the model together."""
    tiles_computed: int
    """Tiles computed; more than `tiles` if blocks that share a tile ran in different processes or far apart."""
    tiles_empty: int
    """Tiles skipped because they hold no valid pixel."""
    valid_pixels: tuple[int, ...]
    """Valid output pixels of each image band."""
    bytes: int
    """Size of the COG, or of those of all bands."""
    seconds: dict[str, float]
    """Wall time by stage, and time in blocks (read, model, blend, consistency, write) summed over threads."""
    sensor: str | None = None
    """How the scene was imaged: blur, noise and compression, and whether that was estimated or given."""
    value_range: str | None = None
    """DN that the model saw as 0 and 1, and where they come from."""
    consistency: tuple[dict[str, float | int], ...] = ()
    """Difference of each image band, downsampled as in the model's training, from the input, in DN: mean, RMS and
    maximum over input pixels that depend on valid pixels only. Empty for an interpolation without `consistency`."""
    sharpened: tuple[dict[str, float | str | None], ...] = ()
    """Of each band that a guide sharpened: its name and the guide's; the share of its detail that the guide explains, and the
    error with and without it in DN, at the scene's own lower resolution, where the fit had not seen it; and the RMS
    difference of the sharpened band, reduced again, from the input, in DN."""
    uncertainty: str | None = None
    """The COG with the standard deviation over the ensemble."""
    intake: tuple[str, ...] = ()
    """What was decided of the scene: bands that are no images, the highest DN, nodata that was found."""
    warnings: tuple[str, ...] = ()
    """What was assumed."""
    stac: str | None = None
    """The STAC item beside the COG."""
    files: tuple[str, ...] = ()
    """The COGs of the bands, in their order, where each band became one."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from geosegsr.pipeline.report_html import as_html

        return as_html(self.to_dict())


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

    done: int
    """Finished blocks, those of an earlier run included."""
    total: int
    """All blocks."""
    resumed: int
    """Blocks that an earlier run finished."""
    stage: str
    """"blocks", "source", "cells", "cog", "verify", "commit" or "upload"; before the blocks what begins, in words, and `total` is 0."""
    share: float | None = None
    """Share of the stage that is done, 0 to 1: of blocks, counted in tiles; None where it is not known."""
    written: int | None = None
    """Bytes that the stage has written, where its share is not known."""


@contextmanager
def stages_told(tell: Callable[[Progress], None] | None) -> Iterator[None]:
    """Tell of what begins before the blocks, such as "loading the model", while the block runs in this thread."""
    token = on_stage.set(lambda stage: None if tell is None else tell(Progress(0, 0, 0, stage)))
    try:
        yield
    finally:
        on_stage.reset(token)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time spent inside to a stage."""
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began


def report_of(
    task: Task,
    records: Mapping[int, BlockRecord],
    resumed: int,
    seconds: Mapping[str, float],
) -> Report:
    """The report of a finished run.

    Args:
        task: What was done.
        records: Of its blocks; empty where the result was finished already.
        resumed: Blocks that an earlier run finished.
        seconds: Wall time by stage.
    """
    planned, metadata = task.planned, task.metadata
    stages = {"total": sum(seconds.values())} | {
        f"blocks_{s}": sum(r.seconds[s] for r in records.values())
        for s in ("read", "model", "blend", "consistency", "write")
    }
    radiometry = planned.rendering.radiometry
    images = [product for product in task.products if product.kind != UNCERTAINTY]
    valid = [
        [count for image in images for count in record.files[image.kind].valid] for record in records.values()
    ]
    residuals = zip(*(record.residuals for record in records.values()), strict=True)
    return Report(
        path=task.request.shown(task.target),
        status="done" if records else "skipped",
        stac=None if not task.request.stac else task.request.shown(task.target.with_suffix(".json")),
        width=metadata.width,
        height=metadata.height,
        bands=len(metadata.bands),
        dtype=planned.scene.dtype.name,
        scale=planned.scale,
        model=planned.rendering.upscaler.facts.name,
        device=planned.computed_on,
        precision=planned.computed_in,
        blocks=len(planned.grid.blocks),
        blocks_resumed=resumed,
        tiles=planned.grid.tiles * len(planned.rendering.groups),
        tiles_computed=sum(r.tiles for r in records.values()),
        tiles_empty=sum(r.empty for r in records.values()),
        valid_pixels=tuple(np.sum(valid, axis=0).tolist()) if valid else (),
        bytes=sum(size_of(image) for image in images),
        seconds={key: round(value, 3) for key, value in {**seconds, **stages}.items()},
        sensor=None if planned.sensing.origin == ASSUMED else planned.sensing.describe(),
        value_range=None if radiometry is None else radiometry.describe(),
        consistency=tuple(Residual.of_all(band).to_dict() for band in residuals),
        sharpened=tuple(band for part in sharpened_parts(planned.scene) for band in part.quality),
        uncertainty=None if task.uncertainty_target is None else task.request.shown(task.uncertainty_target),
        intake=planned.intake.decisions,
        warnings=task.assumed,
        files=tuple(image.name for image in images) if planned.separate else (),
    )


def published_report(report: Report, task: Task, upload_s: float, *, sent: bool) -> Report:
    """The report of a run in local files, once these are in their store.

    Args:
        report: Of the local run.
        task: With the way to the store.
        upload_s: What that took, in seconds.
        sent: Whether the results were sent now.
    """
    images = [product for product in task.products if product.kind != UNCERTAINTY]
    total = round(report.seconds["total"] + upload_s, 3)
    return replace(
        report,
        status="done" if sent else "skipped",
        path=task.request.shown(task.target),
        stac=None if report.stac is None else task.request.shown(Path(report.stac)),
        uncertainty=None if report.uncertainty is None else task.request.shown(Path(report.uncertainty)),
        files=tuple(image.name for image in images) if report.files else (),
        seconds={**report.seconds, "upload": round(upload_s, 3), "total": total},
    )
