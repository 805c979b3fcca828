"""Dask runs the blocks: in threads of this process, in worker processes, or on a scheduler that exists.

Whatever runs them, a few blocks are in flight at a time and only small records come back, so memory does
not grow with the number of blocks.
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dask
from dask.local import get_async
from dask.system import CPU_COUNT

from geosegsr import __version__
from geosegsr.errors import Cancelled, ConfigError, GeoSegSRError, JobError
from geosegsr.render import check_stop, stop_requested
from geosegsr.scratch import scratch_folder

log = logging.getLogger("geosegsr")

T = TypeVar("T")

# More threads than this gain nothing: numpy, torch and GDAL use the cores inside a block as well.
_MOST_THREADS = 4
_CONNECT_TIMEOUT_S = 15
_START_TIMEOUT_S = 60


def default_threads() -> int:
    """Blocks computed at a time in one process."""
    return max(1, min(_MOST_THREADS, CPU_COUNT))


class Engine(Protocol):
    """Computes the blocks of any number of runs, one after another or, from several threads, at a time."""

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        threads: int,
        shared_folder: Path,
    ) -> None:
        """Call `work` on every index and hand each result to `on_done`, in the order they come.

        Args:
            work: Picklable where workers or a scheduler do it; small results.
            indices: What to work on.
            on_done: Called in this thread, one call at a time.
            threads: Calls of this run at a time, where threads of this process do it.
            shared_folder: Must be the same folder for every worker.

        Raises:
            JobError: No scheduler there, no worker, a worker of another version, a folder not shared, or a
                block that keeps killing its workers.
            Cancelled: `cancel` was called.
        """

    def cancel(self) -> None:
        """Stop every run, at its next tile or sooner; any thread may call it. There is no way back."""


@contextmanager
def open_engine(workers: int | None = None, scheduler: str | None = None) -> Iterator[Engine]:
    """Threads of this process, or what was asked for. A cluster starts with the first run and ends here.

    Args:
        workers: Number of worker processes on this machine.
        scheduler: Address of a Dask scheduler that exists.

    Raises:
        ConfigError: Both, or no worker at all.
    """
    if workers is not None and scheduler is not None:
        raise ConfigError(
            "Cannot use both --workers and --scheduler: a scheduler has workers of its own. Pass one."
        )
    if workers is not None and workers < 1:
        raise ConfigError(
            f"Cannot work with {workers} workers: pass --workers with at least 1, or leave it out."
        )
    if workers is None and scheduler is None:
        with _threads() as engine:
            yield engine
        return
    with ExitStack() as stack:
        yield _ClusterEngine(lambda folder: stack.enter_context(_client(workers, scheduler, folder)))


@contextmanager
def _threads() -> Iterator[Engine]:
    pool = ThreadPoolExecutor(default_threads(), thread_name_prefix="geosegsr-block")
    try:
        yield _ThreadEngine(pool)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # what is inside a tile may take a while yet
        raise
    pool.shutdown()


class _ThreadEngine:
    """One pool for all runs, so that blocks in memory are no more for many scenes than for one."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._cancelled = threading.Event()

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        threads: int,
        shared_folder: Path,
    ) -> None:
        failed = threading.Event()

        def attempt(index: int) -> T:
            stop_requested.set(lambda: failed.is_set() or self._cancelled.is_set())
            check_stop()
            return work(index)

        def deliver(key: str, result: T, *_: Any) -> None:
            on_done(result)

        # Dask takes tasks from the last name to the first; in the scene's order neighbours can share tiles.
        graph = {f"block-{len(indices) - n:08d}": (attempt, index) for n, index in enumerate(indices)}
        try:
            # Not dask.threaded.get: its callbacks belong to the process, and runs in other threads got them.
            get_async(
                self._pool.submit, threads, graph, list(graph), callbacks=[(None, None, None, deliver, None)]
            )
        except BaseException:
            failed.set()  # threads that are inside a block stop at its next tile
            raise

    def cancel(self) -> None:
        self._cancelled.set()


class _ClusterEngine:
    """Worker processes, on this machine or elsewhere, for all runs."""

    def __init__(self, connect: Callable[[Path], Any]) -> None:
        self._connect = connect
        self._connecting = threading.Lock()
        self._client: Any = None
        self._cancelled = threading.Event()

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        threads: int,
        shared_folder: Path,
    ) -> None:
        with self._connecting:
            if self._client is None:
                self._client = self._connect(shared_folder.absolute().parent)
        _check_workers(self._client, shared_folder)
        _run_distributed(self._client, work, indices, on_done, self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()


@contextmanager
def _client(workers: int | None, scheduler: str | None, folder: Path) -> Iterator[Any]:
    """A client of the scheduler, or of a cluster on this machine whose own files may go beside the results."""
    from distributed import Client

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
    with _scratch(folder):
        cluster = _local_cluster(workers)
        client = Client(cluster, set_as_default=False)
        patience = 1  # interrupted or failed: what the workers still do is not wanted
        try:
            yield client
            patience = _START_TIMEOUT_S
        finally:
            for part in (client, cluster):
                with suppress(TimeoutError):
                    part.close(timeout=patience)


@contextmanager
def _scratch(beside: Path) -> Iterator[None]:
    """A folder for what Dask keeps on disk, unless its configuration names one."""
    if dask.config.get("temporary-directory", None):
        yield
        return
    with (
        tempfile.TemporaryDirectory(
            prefix="geosegsr-dask-", dir=scratch_folder(beside), ignore_cleanup_errors=True
        ) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        yield


def _local_cluster(workers: int | None) -> Any:
    from distributed import LocalCluster

    try:
        multiprocessing.get_context("spawn").Lock()  # what every worker process needs first
        return LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise JobError(
            f"Cannot start worker processes: {reason}. They need shared memory (/dev/shm) and free ports. "
            "Mend that, or leave out --workers to work in threads of one process."
        ) from error


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
    client: Any,
    work: Callable[[int], T],
    indices: Sequence[int],
    on_done: Callable[[T], None],
    cancelled: threading.Event,
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
            if cancelled.is_set():
                raise Cancelled("The run was asked to stop.")
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
