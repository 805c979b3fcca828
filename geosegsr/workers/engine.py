"""Runs blocks with Dask: in threads of this process, in worker processes, or on an existing scheduler.

In each case few blocks are in flight at a time and only small records return, so memory does not grow with the number of
blocks.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dask
from dask.local import get_async
from dask.system import CPU_COUNT

from geosegsr.context import check_stop, cores_of_a_block, on_tiles, stop_requested
from geosegsr.cpu import KEPT_MEMORY, keep_freed_memory, single_threaded_blas
from geosegsr.errors import ConfigError, JobError, require
from geosegsr.workers.cluster import run_on_cluster
from geosegsr.workers.scheduler import Scheduler
from geosegsr.workers.worker import Check, Work

log = logging.getLogger("geosegsr")

T = TypeVar("T")

# More threads gain nothing where a network uses several cores inside a block as well.
_MOST_THREADS = 4
_MOST_SINGLE_CORE_THREADS = 16  # each holds a block in memory
_CONNECT_TIMEOUT_S = 15
_START_TIMEOUT_S = 60
_GOODBYE_S = 5
# For its dashboard, Dask samples the stacks of workers a hundred times a second and wakes every process fifty times.
_QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms"}
# By default Dask has its workers return freed memory at once, and the system zeroes it anew for each array.
_KEEPING = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEPT_MEMORY.items()}


def _nothing(index: int) -> Sequence[int]:
    return ()


def default_threads() -> int:
    """Blocks computed at a time in one process."""
    return max(1, min(_MOST_THREADS, CPU_COUNT))


def single_core_threads() -> int:
    """As `default_threads`, of blocks that use one core each: there is no network, or a GPU computes it."""
    return max(1, min(_MOST_SINGLE_CORE_THREADS, CPU_COUNT))


class Engine(Protocol):
    """Computes the blocks of any number of runs, one after another or concurrently from several threads."""

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        before: Callable[[int], Sequence[int]] = _nothing,
        together: int,
        shared_folder: Path | None,
        check: Callable[[], Check] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
        at_a_time: int | None = None,
    ) -> None:
        """Call `work` on every index and hand each result to `on_done`, in the order they come.

        Args:
            work: Picklable where workers or a scheduler do it; small results.
            indices: What to work on.
            on_done: Called in this thread, one call at a time.
            before: Blocks to compute before a block, because it shares their tiles; used by threads of this process only.
            together: Number of blocks of this run and of concurrent ones, among which threads of this process share the
                cores. It does not change when a run resumes: some networks round differently with another number of
                threads.
            shared_folder: Must be the same folder for every worker; None where they share none.
            check: Returns what each worker process runs before it receives work; one that fails receives none.
            on_tile: Called with an index and the tiles that its block has done since the last call, from threads of this
                process only, any number at a time.
            at_a_time: Blocks that threads of this process compute at a time, `default_threads` by default; the first run of
                an engine decides for all.

        Raises:
            JobError: The scheduler cannot be reached or was lost, no worker passes the check, or a block keeps ending its
                workers.
            Cancelled: `cancel` was called.
        """

    def cancel(self) -> None:
        """Stop every run before its next tile, for good; any thread may call it."""


@contextmanager
def open_engine(workers: int | None = None, scheduler: str | Scheduler | None = None) -> Iterator[Engine]:
    """An engine: threads of this process, worker processes, or a scheduler. A cluster starts with the first run.

    Args:
        workers: Number of worker processes on this machine.
        scheduler: A Dask scheduler that exists, or its address.

    Raises:
        ConfigError: Both were given, less than one worker, certificates that cannot be used, or distributed is not
            installed.
    """
    if workers is not None and scheduler is not None:
        raise ConfigError(
            "Cannot use both --workers and --scheduler: a scheduler has its own workers. Pass one of them."
        )
    if workers is not None and workers < 1:
        raise ConfigError(f"Cannot use {workers} workers: pass --workers with at least 1, or leave it out.")
    if workers is None and scheduler is None:
        with _threads() as engine:
            yield engine
        return
    require("cluster", "use --workers or --scheduler", "distributed")
    if isinstance(scheduler, str):
        scheduler = Scheduler(scheduler)
    if scheduler is not None and scheduler.is_encrypted:
        scheduler.security()  # refused before any scene is read
    with ExitStack() as stack:
        cores = None if workers is None else max(1, CPU_COUNT // workers)
        yield _ClusterEngine(lambda: stack.enter_context(_client(workers, scheduler)), cores)


@contextmanager
def _threads() -> Iterator[Engine]:
    keep_freed_memory()  # before the threads that it is for
    engine = _ThreadEngine()
    try:
        with single_threaded_blas():  # once: OpenBLAS threads spin for a while when re-enabled
            yield engine
    except BaseException:
        engine.close(wait=False)  # threads inside a tile may need a while
        raise
    engine.close(wait=True)


class _ThreadEngine:
    """One pool for all runs, so that many scenes hold no more blocks in memory than one.

    Concurrent blocks use the cores better than one block with many cores: reading and blending overlap with the network.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._opening = threading.Lock()
        self._cancelled = threading.Event()

    def _pool_for(self, at_a_time: int) -> ThreadPoolExecutor:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="geosegsr-block")
            return self._pool

    def close(self, *, wait: bool) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        before: Callable[[int], Sequence[int]] = _nothing,
        together: int,
        shared_folder: Path | None,
        check: Callable[[], Check] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
        at_a_time: int | None = None,
    ) -> None:
        at_a_time = at_a_time or default_threads()
        failed = threading.Event()
        cores = max(1, CPU_COUNT // min(at_a_time, together))

        def attempt(index: int, _before: list[T]) -> T:
            stop_requested.set(lambda: failed.is_set() or self._cancelled.is_set())
            check_stop()
            cores_of_a_block.set(cores)
            if on_tile is not None:
                on_tiles.set(partial(on_tile, index))
            return work(index)

        names = {index: f"block-{len(indices) - n:08d}" for n, index in enumerate(indices)}

        def deliver(key: str, result: T, *_: Any) -> None:
            on_done(result)

        # Dask takes tasks from the last name to the first; in the scene's order neighbours can share tiles.
        graph = {
            name: (attempt, index, [names[other] for other in before(index) if other in names])
            for index, name in names.items()
        }
        try:
            # Not dask.threaded.get: its callbacks are global to the process, so that runs in other threads would receive them.
            get_async(
                self._pool_for(at_a_time).submit,
                at_a_time,
                graph,
                list(graph),
                callbacks=[(None, None, None, deliver, None)],
            )
        except BaseException:
            failed.set()  # threads inside a block stop before its next tile
            raise

    def cancel(self) -> None:
        self._cancelled.set()


class _ClusterEngine:
    """Worker processes, on this machine or elsewhere, shared by all runs."""

    def __init__(self, connect: Callable[[], Any], cores: int | None) -> None:
        self._connect = connect
        self._cores = cores
        self._connecting = threading.Lock()
        self._client: Any = None
        self._told: set[tuple[str, str]] = set()
        self._failure: JobError | None = None
        self._cancelled = threading.Event()

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        *,
        before: Callable[[int], Sequence[int]] = _nothing,
        together: int,
        shared_folder: Path | None,
        check: Callable[[], Check] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
        at_a_time: int | None = None,
    ) -> None:
        run_on_cluster(
            self._connected(),
            Work(work, None if check is None else check(), self._cores),
            indices,
            on_done,
            shared_folder=shared_folder,
            cancelled=self._cancelled,
            told=self._told,
        )

    def _connected(self) -> Any:
        """The cluster's client. If it could not be reached for one run, the others fail at once."""
        with self._connecting:
            if self._failure is not None:
                raise self._failure
            if self._client is None:
                try:
                    self._client = self._connect()
                except JobError as error:
                    self._failure = error
                    raise
            return self._client

    def cancel(self) -> None:
        self._cancelled.set()


@contextmanager
def _client(workers: int | None, scheduler: Scheduler | None) -> Iterator[Any]:
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    # It reports a lost connection with its traceback, as information.
    logging.getLogger("distributed.batched").setLevel(logging.WARNING)
    if scheduler is not None:
        security = scheduler.security()
        scheduler.warn_if_open()
        try:
            client = Client(
                scheduler.address, security=security, timeout=_CONNECT_TIMEOUT_S, set_as_default=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise JobError(
                f"Cannot reach a Dask scheduler at '{scheduler.address}': {error}. "
                "Start one with `dask scheduler`, or pass --workers N to use this machine."
            ) from error
        try:
            yield client
        finally:
            # If the scheduler was lost, our own error reports it.
            with silence_logging_cmgr(logging.CRITICAL), suppress(TimeoutError, OSError):
                client.close(timeout=_GOODBYE_S)
        return
    with _scratch(), dask.config.set({**_QUIET, **_KEEPING}), _own_environment():
        cluster = _local_cluster(workers)
        client = Client(cluster, set_as_default=False)
        patience = 1  # interrupted or failed: do not wait for the workers
        try:
            yield client
            patience = _START_TIMEOUT_S
        finally:
            for part in (client, cluster):
                with suppress(TimeoutError):
                    part.close(timeout=patience)


@contextmanager
def _own_environment() -> Iterator[None]:
    """What Dask sets in this process' environment for its workers to inherit is as before at the end."""
    before = {name: os.environ.get(name) for name in dask.config.get("distributed.nanny.pre-spawn-environ")}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _scratch() -> Iterator[None]:
    """A temporary folder for Dask, unless its configuration names one."""
    if dask.config.get("temporary-directory", None):
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="geosegsr-dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        yield


def _local_cluster(workers: int | None) -> Any:
    from distributed import LocalCluster

    try:
        multiprocessing.get_context("spawn").Lock()  # what every worker process needs first
        # At the end of a run, workers report a heartbeat that finds no scheduler, with its traceback, as an error.
        return LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise JobError(
            f"Cannot start worker processes: {reason}. They need shared memory (/dev/shm) and free ports. "
            "Provide both, or leave out --workers to use threads of one process."
        ) from error
