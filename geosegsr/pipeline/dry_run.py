"""What runs would take, and what they would refuse: --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosegsr.errors import GeoSegSRError, UnsuitableError
from geosegsr.files import temporary_folder
from geosegsr.pipeline.batch import Unsuitable, check_for_all, first_folder
from geosegsr.pipeline.estimate import Estimate, estimate
from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.publish import check_sidecars
from geosegsr.pipeline.standing import needs_run
from geosegsr.pipeline.targets import staged
from geosegsr.pipeline.task import Request, Task


@dataclass(frozen=True)
class BatchEstimate:
    """What to expect from a batch on this machine."""

    scenes: int
    """Scenes to upscale."""
    finished: int
    """Scenes whose results are finished already."""
    failures: dict[str, str]
    """Why scenes cannot be upscaled, by source."""
    unsuitable: dict[str, str]
    """Why scenes are left out, by source."""
    output_bytes: int
    """Pixels of all results, uncompressed."""
    memory_bytes: int
    """Peak of one process, an upper bound."""
    disk_bytes: int
    """All results, and the job folders beside them during the runs."""
    seconds: float
    """Wall time on this machine without --workers, extrapolated from some blocks of the largest scene."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def dry_run(request: Request, src: str, target: Path, uncertainty: Path | None = None) -> Estimate:
    """Plan one scene and time some of its blocks; nothing is written.

    Args:
        request: What is asked for.
        src: The scene.
        target: The COG that a run would write.
        uncertainty: The COG that it would write for the standard deviation over an ensemble.

    Returns:
        What a run would take; of a finished result, what it is, with 0 bytes and seconds.

    Raises:
        GeoSegSRError: What a run would raise before its first block.
    """
    target = staged(target, request.staging)
    beside = None if uncertainty is None else staged(uncertainty, request.staging)
    task = request.prepare(src, target, beside)
    if not _to_do(task):
        return Estimate.of(task.planned, finished=True)
    with temporary_folder(target.parent):
        return estimate(task.planned)


def dry_run_batch(
    request: Request, scenes: Sequence[tuple[str, Path]], unsuitable: Unsuitable = "fail"
) -> BatchEstimate:
    """Plan all scenes and time some blocks of the largest; nothing is written.

    Args:
        request: What is asked for.
        scenes: As for `upscale_batch`.
        unsuitable: Likewise.

    Raises:
        GeoSegSRError: As `upscale_batch`.
    """
    scenes = [(source, staged(target, request.staging)) for source, target in scenes]
    check_for_all(request, scenes)
    finished = to_do = output_bytes = memory_bytes = 0
    failures: dict[str, str] = {}
    left_out: dict[str, str] = {}
    largest: Plan | None = None
    for source, target in scenes:
        try:
            task = request.prepare(source, target, new_folder=True)
            if not _to_do(task):
                finished += 1
                continue
        except GeoSegSRError as error:
            skipped = isinstance(error, UnsuitableError) and unsuitable == "skip"
            (left_out if skipped else failures)[source] = str(error)
            continue
        to_do += 1
        output_bytes += task.planned.output_bytes
        memory_bytes = max(memory_bytes, task.planned.memory_bytes)
        if largest is None or task.planned.output_bytes > largest.output_bytes:
            largest = task.planned
    if largest is None:
        return BatchEstimate(0, finished, failures, left_out, 0, 0, 0, 0.0)
    with temporary_folder(first_folder(scenes)):
        one, share = estimate(largest), output_bytes / largest.output_bytes
    disk_bytes, seconds = int(one.disk_bytes * share), round(one.seconds * share, 1)
    return BatchEstimate(to_do, finished, failures, left_out, output_bytes, memory_bytes, disk_bytes, seconds)


def _to_do(task: Task) -> bool:
    task.job().check_free()
    check_sidecars(task)
    return needs_run(task)
