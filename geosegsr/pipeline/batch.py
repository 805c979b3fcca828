"""Many scenes, overlapping where that keeps the machine busy.

    scene 1   plan  blocks............  cog  verify
    scene 2         plan  (waits)       blocks............  cog  verify
    scene 3               plan          (waits)             blocks....

Large scenes compute their blocks in turn, so the first result is ready as early as if it were alone. Small scenes run
several at a time. A scene that fails does not affect the others.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Unpack

from geosegsr.errors import Cancelled, ConfigError, GeoSegSRError, JobError, SceneError, UnsuitableError
from geosegsr.files import real_path, sha256_of, temporary_folder
from geosegsr.models.catalogue import check_scale, model_at, shared_upscaler
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.notices import warn
from geosegsr.pipeline.options import PlanOptions, listed, with_defaults
from geosegsr.pipeline.publish import publish_collection
from geosegsr.pipeline.report import Progress, Report, stages_told
from geosegsr.pipeline.run import carry_out
from geosegsr.pipeline.staging import Staging, check_scratch
from geosegsr.pipeline.targets import staged
from geosegsr.pipeline.task import RESULT_KEY_TAG, Request
from geosegsr.pipeline.turns import Turns
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.gdal import read_tag
from geosegsr.raster.stderr import release_standard_error
from geosegsr.stores.address import Address
from geosegsr.workers.engine import default_threads, open_engine
from geosegsr.workers.scheduler import Scheduler

log = logging.getLogger("geosegsr")

Status = Literal["done", "skipped", "unsuitable", "failed", "stopped"]
OnError = Literal["skip", "stop"]
Unsuitable = Literal["skip", "fail"]

# Assumed where the number of workers is unknown.
_WORKERS_OF_A_SCHEDULER = 8
_GOODBYE_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of one scene of a batch."""

    source: str
    output: str
    status: Status
    """"done"; "skipped", because its result was finished already; "unsuitable"; "failed"; or "stopped", because another one failed."""
    error: str | None = None
    """Why it failed or is unsuitable, on one line."""
    kind: str | None = None
    """The error's type."""
    sha256: str | None = None
    """Of the result's file, if this call made it; None where each band became a file, or it went to an object store."""
    report: Report | None = None
    """What was done; of a scene that was skipped, what its result is."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields of the outcome and of its report."""
        own = {key: value for key, value in asdict(self).items() if key != "report"}
        return own | ({} if self.report is None else self.report.to_dict())


@listed(PlanOptions)
def upscale_batch(
    scenes: Sequence[tuple[str, Path]],
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    workers: int | None = None,
    scheduler: str | Scheduler | None = None,
    creation: Mapping[str, str] | None = None,
    stac: bool = False,
    acquired: str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    on_error: OnError = "skip",
    unsuitable: Unsuitable = "fail",
    progress: Callable[[str, Progress], None] | None = None,
    scratch: str | Path | None = None,
    **options: Unpack[PlanOptions],
) -> Iterator[Outcome]:
    """Upscale many rasters with one model, each as `upscale` would; finished results are left untouched.

    The model is loaded once, and a cluster is started once. The same call resumes a batch that was interrupted.

    Args:
        scenes: Each source with the file or the object of its result; see `geosegsr.pipeline.scene_list`.
        scale: As in `upscale`.
        model: As in `upscale`.
        workers: As in `upscale`, for all scenes together.
        scheduler: As in `upscale`.
        creation: As in `upscale`.
        stac: As in `upscale`; a finished result without its item gets one, too. A collection of all items, collection.json,
            goes into the folder that holds them all.
        acquired: As in `upscale`, for all scenes.
        overwrite: As in `upscale`.
        resume: As in `upscale`.
        on_error: Whether a scene that fails is skipped ("skip"), or ends the batch ("stop").
        unsuitable: Whether a raster of a kind that cannot be upscaled (`UnsuitableError`) fails ("fail"), or is reported as
            unsuitable and left out ("skip").
        progress: Called with a source and its progress, one call at a time, from several threads.
        scratch: As in `upscale`.
        **options: See `geosegsr.pipeline.options.PlanOptions`.

    Yields:
        The outcome of each scene, as it ends. Closing the iterator stops the others.

    Raises:
        GeoSegSRError: No scene can be done: the model or the options cannot work.
    """
    request = Request(
        scale, model, options, creation, stac, acquired, overwrite, resume,
        elsewhere=scheduler is not None, staging=Staging.at(scratch),
    )  # fmt: skip
    check_scratch([target for _, target in scenes], scratch)
    scenes = [(source, staged(target, request.staging)) for source, target in scenes]
    check_for_all(request, scenes)
    _make_folders([target for _, target in scenes if request.address(target) is None])
    workers_at_hand = workers or (None if scheduler is None else _WORKERS_OF_A_SCHEDULER)
    blocks_at_a_time = default_threads() if workers_at_hand is None else 2 * workers_at_hand
    with temporary_folder(first_folder(scenes)), open_engine(workers, scheduler) as engine:
        each = _Each(request, Turns(engine, blocks_at_a_time), _one_at_a_time(progress), unsuitable)
        items: list[str] = []
        for outcome in _follow(each, scenes, (workers_at_hand or default_threads()) + 1, on_error):
            if outcome.report is not None and outcome.report.stac is not None:
                items.append(outcome.report.stac)
            yield outcome
        if stac:
            _write_collection(request, scenes, items)


@dataclass(frozen=True)
class _Each:
    """Upscales the scenes of a batch, each in some thread."""

    request: Request
    engine: Turns
    tell: Callable[[str, Progress], None]
    unsuitable: Unsuitable

    def outcome(self, source: str, target: Path) -> Outcome:
        """Do one scene; whatever happens to it is its outcome."""
        shown = self.request.shown(target)
        try:
            return self._attempt(source, target)
        except Cancelled:
            return Outcome(source, shown, "stopped")
        except GeoSegSRError as error:
            left_out = isinstance(error, UnsuitableError) and self.unsuitable == "skip"
            status: Status = "unsuitable" if left_out else "failed"
            return Outcome(source, shown, status, str(error), type(error).__name__)
        except Exception as error:  # a bug in one scene must not end the others
            log.exception("'%s' met a bug", source)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"Cannot upscale '{source}': a bug, {reason}."
            return Outcome(source, shown, "failed", message, type(error).__name__)

    def ended(self, future: Future[Outcome], source: str, target: Path) -> Outcome:
        """The outcome of a scene that has ended, or that was never begun."""
        try:
            return future.result()
        except CancelledError:
            return Outcome(source, self.request.shown(target), "stopped")

    def _attempt(self, source: str, target: Path) -> Outcome:
        shown, in_store = self.request.shown(target), self.request.address(target) is not None
        if not in_store:
            _make_folder(target)
        with stages_told(tell := partial(self.tell, source)):
            task = self.request.prepare(source, target)
            report = carry_out(task, self.engine, tell)
        if report.status == "skipped" or report.files or in_store:
            return Outcome(source, shown, report.status, report=report)
        return Outcome(source, shown, report.status, sha256=sha256_of(target), report=report)


def _follow(
    each: _Each, scenes: Sequence[tuple[str, Path]], in_flight: int, on_error: OnError
) -> Iterator[Outcome]:
    pool = ThreadPoolExecutor(in_flight, "geosegsr-scene")
    left = {pool.submit(each.outcome, *scene): scene for scene in scenes}
    ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
    for future in list(left):
        future.add_done_callback(ended.put)
    try:
        while left:
            future = ended.get()
            outcome = each.ended(future, *left.pop(future))
            yield outcome
            if outcome.status == "failed" and on_error == "stop":
                pool.shutdown(wait=False, cancel_futures=True)
                each.engine.cancel()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if left:  # interrupted
            each.engine.cancel()
            release_standard_error()
            wait([future for future in left if future.running()], timeout=_GOODBYE_S)


def without_results(scenes: Sequence[tuple[str, Path]], *, separate: bool = False) -> list[tuple[str, Path]]:
    """Leave out scenes that are results of other scenes in the list.

    If results lie beside their sources, a pattern that finds the sources will find the results, too, the next time.

    Args:
        scenes: Each source with the name of its result.
        separate: Whether each band becomes a file of its own.

    Raises:
        JobError: A result would replace a source that geosegsr did not make, or might, if it is that of a band.
    """
    by_target = {real_path(target): source for source, target in scenes}
    kept = []
    for source, target in scenes:
        maker = _named_after(by_target, source) if separate else by_target.get(real_path(source))
        if maker is None or maker == source:
            kept.append((source, target))
        elif read_tag(source, RESULT_KEY_TAG) is None:
            raise JobError(
                f"Cannot write the result of '{maker}' to '{source}': it is a source of this batch, too. "
                "Pass another -o or --name."
            )
    return kept


def _named_after(by_target: Mapping[str, str], source: str) -> str | None:
    """The scene one of whose bands may become the file of this source."""
    path = Path(real_path(source))
    ends = [at for at, letter in enumerate(path.stem) if letter == "_" and at]
    makers = (by_target.get(str(path.with_stem(path.stem[:at]))) for at in ends)
    return next((maker for maker in makers if maker is not None), None)


def check_for_all(request: Request, scenes: Sequence[tuple[str, Path]]) -> None:
    """Refuse what is wrong for every scene once, before the first.

    Raises:
        GeoSegSRError: The scale, the model, the device or the creation options cannot work, or two STAC items would have
            one name.
        TypeError: There is no such option.
    """
    options = with_defaults(request.options)
    check_scale(request.scale, guided=True)  # whether there is a guide, each scene will tell
    creation_options(request.creation or {})
    shared_upscaler(
        model_at(request.scale, request.model), request.scale,
        device=options["device"], precision=options["precision"], elsewhere=request.elsewhere,
    )  # fmt: skip
    if request.stac:
        _check_items([target for _, target in scenes])


def _check_items(targets: Sequence[Path]) -> None:
    """Refuse two results whose STAC items would have one name."""
    owners: dict[Path, Path] = {}
    for target in targets:
        item = target.with_suffix(".json")
        other = owners.setdefault(item, target)
        if other != target:
            raise ConfigError(
                f"Cannot write the STAC items of both '{other}' and '{target}' to '{item}'. Pass a --name that ends in .tif."
            )


def _write_collection(request: Request, scenes: Sequence[tuple[str, Path]], items: Sequence[str]) -> None:
    from geosegsr.raster import stac_collection  # loads pystac

    folder = _common_folder(scenes)
    place = request.address(folder / stac_collection.NAME)
    if place is not None:
        publish_collection(place, [Address.parse(item) for item in items])
    elif any(request.address(target) for _, target in scenes):
        warn("no STAC collection is written: the results have no folder in common")
    else:
        stac_collection.write_collection(folder, [Path(item) for item in items])


def _make_folders(targets: Sequence[Path]) -> None:
    """Create the folders of all results. A failure affects only the scenes of that folder, unless all fail."""
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
            f"Cannot write '{target}': its folder cannot be created ({reason}). "
            "Pass -o in a folder that you may write."
        ) from error


def first_folder(scenes: Sequence[tuple[str, Path]]) -> Path:
    """The folder of the first result."""
    return scenes[0][1].parent if scenes else Path()


def _common_folder(scenes: Sequence[tuple[str, Path]]) -> Path:
    """The folder that holds the folders of all results."""
    return Path(os.path.commonpath([target.absolute().parent for _, target in scenes])) if scenes else Path()


def _one_at_a_time(progress: Callable[[str, Progress], None] | None) -> Callable[[str, Progress], None]:
    lock = threading.Lock()

    def tell(source: str, event: Progress) -> None:
        if progress is not None:
            with lock:
                progress(source, event)

    return tell
