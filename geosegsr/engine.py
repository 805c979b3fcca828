"""Dask runs the blocks: in threads of this process, in worker processes, or on a scheduler that exists.

Whatever runs them, a few blocks are in flight at a time and only small records come back, so memory does
not grow with the number of blocks.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dask.callbacks import Callback
from dask.system import CPU_COUNT
from dask.threaded import get as threaded_get

from geosegsr import __version__
from geosegsr.errors import GeoSegSRError, JobError
from geosegsr.render import cancel

log = logging.getLogger("geosegsr")

T = TypeVar("T")

# More threads than this gain nothing: numpy, torch and GDAL use the cores inside a block as well.
_MOST_THREADS = 4
_CONNECT_TIMEOUT_S = 15
_START_TIMEOUT_S = 60


def default_threads() -> int:
    """Blocks computed at a time in one process."""
    return max(1, min(_MOST_THREADS, CPU_COUNT))


def run(
    work: Callable[[int], T],
    indices: Sequence[int],
    on_done: Callable[[T], None],
    *,
    threads: int,
    workers: int | None,
    scheduler: str | None,
    shared_folder: Path,
) -> None:
    """Call `work` on every index and hand each result to `on_done`, in the order they come.

    Args:
        work: Picklable where workers or a scheduler are asked for; small results.
        indices: What to work on.
        on_done: Called in this process, one call at a time.
        threads: Calls at a time, where neither workers nor a scheduler are asked for.
        workers: Number of worker processes on this machine; None for threads of this process.
        scheduler: Address of a Dask scheduler that exists; beats `workers`.
        shared_folder: Must be the same folder for every worker.

    Raises:
        JobError: No scheduler there, no worker, a worker of another version, a folder not shared, or a
            block that keeps killing its workers.
    """
    if scheduler is None and workers is None:
        _run_threads(work, indices, on_done, threads)
        return
    with _client(workers, scheduler) as client:
        _check_workers(client, shared_folder)
        _run_distributed(client, work, indices, on_done)


def _run_threads(
    work: Callable[[int], T], indices: Sequence[int], on_done: Callable[[T], None], threads: int
) -> None:
    # Dask takes tasks from the last name to the first; in the scene's order neighbours can share tiles.
    graph = {f"block-{len(indices) - n:08d}": (work, index) for n, index in enumerate(indices)}

    def deliver(key: str, result: T, *_: Any) -> None:
        on_done(result)

    cancel.clear()
    try:
        with Callback(posttask=deliver):
            threaded_get(graph, list(graph), num_workers=threads)
    except BaseException:
        cancel.set()  # threads that are inside a block stop at its next tile
        raise


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise JobError(
                f"Cannot reach a Dask scheduler at '{scheduler}': {error}. "
                "Start one with `dask scheduler`, or pass --workers N to work on this machine."
            ) from error
        with client:
            yield client
        return
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
    )
    client = Client(cluster, set_as_default=False)
    patience = 1  # interrupted or failed: what the workers still do is not wanted
    try:
        yield client
        patience = _START_TIMEOUT_S
    finally:
        for part in (client, cluster):
            with suppress(TimeoutError):
                part.close(timeout=patience)


def _check_workers(client: Any, folder: Path) -> None:
    """Refuse before the work what could only fail in it."""
    try:
        client.wait_for_workers(1, timeout=_START_TIMEOUT_S)
    except TimeoutError as error:
        raise JobError(
            f"Cannot start: the scheduler at {client.scheduler.address} has no workers. Start some with `dask worker`."
        ) from error
    token = folder.absolute() / f"token-{uuid.uuid4().hex}"
    token.write_text(token.name)
    try:
        seen = client.run(_look_around, str(token), on_error="return")
    finally:
        token.unlink()
    for worker, found in seen.items():
        if isinstance(found, Exception):
            raise JobError(
                f"Cannot use worker {worker}: it cannot run geosegsr ({' '.join(str(found).split())}). "
                f"Install geosegsr {__version__} on all workers."
            )
        text, version = found
        if text != token.name:
            raise JobError(
                f"Cannot use worker {worker}: it does not see the folder '{folder}'. "
                "Pass -o in a folder that this machine and all workers share."
            )
        if version != __version__:
            raise JobError(
                f"Cannot use worker {worker}: it runs geosegsr {version}, this is {__version__}. "
                "Install the same version on all workers."
            )


def _look_around(token: str) -> tuple[str, str]:
    path = Path(token)
    return (path.read_text() if path.exists() else ""), __version__


@dataclass(frozen=True)
class _Failure:
    """One of our errors on its way from a worker: its cause may be of a kind that cannot travel."""

    kind: type[GeoSegSRError]
    message: str


def _attempt(work: Callable[[int], T], index: int) -> T | _Failure:
    try:
        return work(index)
    except GeoSegSRError as error:
        return _Failure(type(error), str(error))


def _run_distributed(
    client: Any, work: Callable[[int], T], indices: Sequence[int], on_done: Callable[[T], None]
) -> None:
    from distributed import KilledWorker, as_completed

    waiting = iter(indices)
    in_flight = 2 * max(1, sum(client.nthreads().values()))
    run_id = uuid.uuid4().hex[:8]

    def submit(index: int) -> Any:
        return client.submit(_attempt, work, index, key=f"geosegsr-{run_id}-block-{index}", pure=False)

    first = [submit(index) for _, index in zip(range(in_flight), waiting, strict=False)]
    pending = as_completed(first, loop=client.loop)
    try:
        for future in pending:
            result = future.result()
            if isinstance(result, _Failure):
                raise result.kind(result.message)
            on_done(result)
            future.release()
            for index in waiting:
                pending.add(submit(index))
                break
    except KilledWorker as error:
        raise JobError(
            f"Cannot finish block {str(error.task).rsplit('-', 1)[-1]}: it ended {error.last_worker.address} and "
            "the workers before it, most likely for want of memory. The other finished blocks are kept: give the "
            "same command again with fewer --workers or a smaller --block."
        ) from error
    except BaseException:
        client.cancel(list(pending.futures), force=True)
        raise
