"""Many scenes, one after another and overlapping where that keeps the machine busy.

    scene 1   plan  blocks............  cog  verify
    scene 2         plan  (waits)       blocks............  cog  verify
    scene 3               plan          (waits)             blocks....

Scenes whose blocks fill the machine compute them in turn, so the first result comes as early as without the others.
Of small scenes there are as many at a time as fill it. A scene that fails leaves the others alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from geosegsr.errors import Cancelled, ConfigError, GeoSegSRError, JobError, SceneError
from geosegsr.files import real_path, temporary_folder
from geosegsr.models.catalogue import check_scale, shared_upscaler
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.pipeline.estimate import estimate
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.report import Progress, Report
from geosegsr.pipeline.targets import check_paths, check_target, has_item, target_exists, wanted_item
from geosegsr.pipeline.task import RESULT_KEY_TAG, Task, is_result, prepare
from geosegsr.pipeline.upscale import carry_out
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.gdal import read_tag
from geosegsr.raster.stderr import release_standard_error
from geosegsr.workers.engine import Engine, default_threads, open_engine

log = logging.getLogger("geosegsr")

T = TypeVar("T")

Status = Literal["done", "skipped", "failed", "stopped"]
OnError = Literal["skip", "stop"]

# Where the number of workers is not ours to know.
_WORKERS_OF_A_SCHEDULER = 8
_GOODBYE_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of one scene of a batch."""

    source: str
    output: str
    status: Status
    """"done"; "skipped", because its result was there already; "failed"; or "stopped", because another one failed."""
    error: str | None = None
    """Why it failed, in one line."""
    kind: str | None = None
    """The error's type."""
    sha256: str | None = None
    """Of the result's file, where it was made now."""
    report: Report | None = None
    """What was done."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the report's items beside those of the outcome."""
        own = {key: value for key, value in asdict(self).items() if key != "report"}
        return own | ({} if self.report is None else self.report.to_dict())


def upscale_batch(
    scenes: Sequence[tuple[str, Path]],
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
    on_error: OnError = "skip",
    progress: Callable[[str, Progress], None] | None = None,
    **options: Any,
) -> Iterator[Outcome]:
    """Enlarge many rasters with one model; a result that is there already is left alone.

    A result is known by the key in its tags: same source (path, size, time of change, samples of its content), model and options. The model is loaded
    once, and a cluster started once. Stopped at any moment, the same call goes on where it was.

    Args:
        scenes: Each source with the file of its result; see `geosegsr.pipeline.scene_list`.
        scale: As in `upscale`.
        model: As in `upscale`.
        workers: As in `upscale`, for all scenes together.
        scheduler: As in `upscale`.
        creation: As in `upscale`.
        stac: As in `upscale`; a result that is there already gets its item too, unless it has it.
        taken: As in `upscale`, for all scenes.
        overwrite: Whether to replace files that are there and were made of another source, with other options or by
            someone else; if not, their scenes fail.
        resume: As in `upscale`.
        on_error: Whether the scenes after one that failed are done ("skip" it) or not ("stop").
        progress: Called with a source and where it stands, one call at a time, from several threads.
        **options: As in `geosegsr.plan`.

    Yields:
        What became of each scene, as it ends. To close the iterator is to stop the others.

    Raises:
        GeoSegSRError: What no scene could be done with: the model, or options that cannot work.
    """
    options["elsewhere"] = scheduler is not None
    _check_for_all(scale, model, creation, options)
    if stac:
        _check_items([target for _, target in scenes])
    _make_folders([target for _, target in scenes])
    orders = _Orders(
        scale, model, creation, stac, taken, overwrite, resume, options, _one_at_a_time(progress)
    )
    workers_at_hand = workers or (None if scheduler is None else _WORKERS_OF_A_SCHEDULER)
    blocks_at_a_time = default_threads() if workers_at_hand is None else 2 * workers_at_hand
    with temporary_folder(_first_folder(scenes)), open_engine(workers, scheduler) as engine:
        turns = _InTurn(engine, blocks_at_a_time)
        yield from _follow(orders, scenes, turns, (workers_at_hand or default_threads()) + 1, on_error)


@dataclass(frozen=True)
class _Orders:
    """What is the same for all scenes of a batch."""

    scale: int
    model: str | Path | Upscaler
    creation: Mapping[str, str] | None
    stac: bool
    taken: str | None
    overwrite: bool
    resume: bool
    options: Mapping[str, Any]
    tell: Callable[[str, Progress], None]

    def follow(self, source: str, target: Path, engine: Engine) -> Outcome:
        """Do one scene; whatever happens to it is its outcome."""
        try:
            return self._attempt(source, target, engine)
        except Cancelled:
            return Outcome(source, str(target), "stopped")
        except GeoSegSRError as error:
            return Outcome(source, str(target), "failed", str(error), type(error).__name__)
        except Exception as error:  # a bug that one scene finds must not cost the others their night
            log.exception("'%s' met a bug", source)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Outcome(
                source,
                str(target),
                "failed",
                f"Cannot upscale '{source}': a bug, {reason}.",
                type(error).__name__,
            )

    def _attempt(self, source: str, target: Path, engine: Engine) -> Outcome:
        _make_folder(target)
        check_target(target, source)
        item = wanted_item(target, source, stac=self.stac, taken=self.taken)
        task = prepare(source, target, self.scale, self.model, creation=self.creation, **self.options)
        if _is_finished(task):
            if item is not None and not has_item(target):
                item()
            return Outcome(source, str(target), "skipped")
        if target.exists() and not self.overwrite and not Job(target).folder.exists():
            raise _made_otherwise(target)
        report = carry_out(
            task,
            engine,
            overwrite=self.overwrite,
            resume=self.resume,
            progress=lambda event: self.tell(source, event),
            write_item=item,
        )
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Outcome(source, str(target), "done", sha256=digest, report=report)


def _follow(
    orders: _Orders,
    scenes: Sequence[tuple[str, Path]],
    engine: Engine,
    in_flight: int,
    on_error: OnError,
) -> Iterator[Outcome]:
    pool = ThreadPoolExecutor(in_flight, "geosegsr-scene")
    left = {pool.submit(orders.follow, *scene, engine): scene for scene in scenes}
    ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
    for future in list(left):
        future.add_done_callback(ended.put)
    try:
        while left:
            future = ended.get()
            outcome = _outcome(future, *left.pop(future))
            yield outcome
            if outcome.status == "failed" and on_error == "stop":
                pool.shutdown(wait=False, cancel_futures=True)
                engine.cancel()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if left:  # interrupted
            engine.cancel()
            release_standard_error()
            wait([future for future in left if future.running()], timeout=_GOODBYE_S)


@dataclass(frozen=True)
class BatchEstimate:
    """What to expect of a batch on this machine."""

    scenes: int
    """To be done."""
    finished: int
    """Whose results are there already."""
    failures: dict[str, str]
    """Why a scene cannot be done, by its source."""
    output_bytes: int
    """Pixels of all results, uncompressed."""
    memory_bytes: int
    """Peak of one process, an upper bound."""
    disk_bytes: int
    """All results, and job folders beside them while their scenes are at work."""
    seconds: float
    """Wall time on this machine without --workers, extrapolated from some blocks of the largest scene."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate_batch(
    scenes: Sequence[tuple[str, Path]],
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    creation: Mapping[str, str] | None = None,
    **options: Any,
) -> BatchEstimate:
    """Plan all scenes and time some blocks of the largest; nothing is written. Arguments and errors as in `upscale_batch`."""
    _check_for_all(scale, model, creation, options)
    finished, failures, total, largest = 0, {}, 0, None
    sizes = memory = 0
    for source, target in scenes:
        try:
            check_paths(target, source)
            task = prepare(source, target, scale, model, creation=creation, **options)
        except GeoSegSRError as error:
            failures[source] = str(error)
            continue
        if _is_finished(task):
            finished += 1
            continue
        total += 1
        sizes += task.planned.output_bytes
        memory = max(memory, task.planned.memory_bytes)
        if largest is None or task.planned.output_bytes > largest.output_bytes:
            largest = task.planned
    if largest is None:
        return BatchEstimate(0, finished, failures, 0, 0, 0, 0.0)
    with temporary_folder(_first_folder(scenes)):
        one, share = estimate(largest), sizes / largest.output_bytes
    return BatchEstimate(
        total, finished, failures, sizes, memory, int(one.disk_bytes * share), round(one.seconds * share, 1)
    )


def without_results(scenes: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """The scenes that are no results of others among them.

    Where results lie beside their sources, the pattern that finds the sources finds them too the next time.

    Raises:
        JobError: A result would replace a source that is none of our results.
    """
    by_target = {real_path(target): source for source, target in scenes}
    kept = []
    for source, target in scenes:
        maker = by_target.get(real_path(source))
        if maker is None or maker == source:
            kept.append((source, target))
        elif read_tag(source, RESULT_KEY_TAG) is None:
            raise JobError(
                f"Cannot write the result of '{maker}' to '{source}': it is a source of this batch itself. "
                "Pass another -o or --name."
            )
    return kept


def _check_for_all(
    scale: int,
    model: str | Path | Upscaler,
    creation: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> None:
    """Say what is wrong for every scene once, before the first."""
    check_scale(scale)
    creation_options(creation or {})
    devices = {key: options[key] for key in ("device", "precision", "elsewhere") if key in options}
    shared_upscaler(str(model) if isinstance(model, Path) else model, scale, **devices)


def _check_items(targets: Sequence[Path]) -> None:
    """Refuse two results whose STAC items would have one name."""
    taken: dict[Path, Path] = {}
    for target in targets:
        item = target.with_suffix(".json")
        other = taken.setdefault(item, target)
        if other != target:
            raise ConfigError(
                f"Cannot write the STAC items of both '{other}' and '{target}' to '{item}'. Pass a --name that ends in .tif."
            )


def _make_folders(targets: Sequence[Path]) -> None:
    """Make the folders of all results. One that cannot be made costs its scenes alone, unless it is so for all."""
    failures = []
    for target in targets:
        try:
            _make_folder(target)
        except SceneError as error:
            failures.append(error)
    if failures and len(failures) == len(targets):
        raise failures[0]


def _make_folder(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SceneError(
            f"Cannot write '{target}': its folder cannot be made ({reason}). "
            "Pass -o in a folder that you may write."
        ) from error


def _first_folder(scenes: Sequence[tuple[str, Path]]) -> Path:
    return scenes[0][1].parent if scenes else Path()


def _is_finished(task: Task) -> bool:
    """Whether the result is there; with a job's folder beside it, something remains to be done."""
    return not Job(task.target).folder.exists() and is_result(task.target, task)


def _made_otherwise(target: Path) -> JobError:
    if read_tag(target, RESULT_KEY_TAG) is None:
        return target_exists(target)
    return JobError(
        f"Cannot write '{target}': it exists, and was made of another source, with another model or other options. "
        "Pass --overwrite to replace it, or another -o."
    )


def _outcome(future: Future[Outcome], source: str, target: Path) -> Outcome:
    try:
        return future.result()
    except CancelledError:
        return Outcome(source, str(target), "stopped")


def _one_at_a_time(progress: Callable[[str, Progress], None] | None) -> Callable[[str, Progress], None]:
    lock = threading.Lock()

    def tell(source: str, event: Progress) -> None:
        if progress is not None:
            with lock:
                progress(source, event)

    return tell


class _InTurn:
    """An engine whose runs begin when fewer blocks than it computes at a time are left of those before them."""

    def __init__(self, engine: Engine, blocks_at_a_time: int) -> None:
        self._engine = engine
        self._most = blocks_at_a_time
        self._left = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._cancelled = False

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        **options: Any,
    ) -> None:
        left = len(indices)
        self._begin(left)

        def count(result: T) -> None:
            nonlocal left
            left -= 1
            self._leave(1)
            on_done(result)

        try:
            self._engine.run(work, indices, count, **{**options, "together": self._most})
        finally:
            self._leave(left)

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self._engine.cancel()

    def _begin(self, blocks: int) -> None:
        turn = object()
        with self._changed:
            self._queue.append(turn)
            self._changed.wait_for(
                lambda: self._cancelled or (self._queue[0] is turn and self._left < self._most)
            )
            self._queue.remove(turn)
            if self._cancelled:
                raise Cancelled("The run was asked to stop.")
            self._left += blocks
            self._changed.notify_all()

    def _leave(self, blocks: int) -> None:
        with self._changed:
            self._left -= blocks
            self._changed.notify_all()
