"""The blocks of one run on their way through a cluster.

    update    every second: which workers there are, and whether the scheduler still answers
    send      as many blocks are in flight as the accepted workers can hold, and a few more
    results   go to the caller; a block that met a worker without the work is sent again

Dask may move a block to an idle worker as long as all workers are accepted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
from dask.utils import parse_timedelta

from geosegsr.errors import Cancelled, ConfigError, JobError
from geosegsr.notices import warn
from geosegsr.workers.block_queue import BlockQueue
from geosegsr.workers.members import ANSWER_S, LATE_S, Members
from geosegsr.workers.worker import Failure, NotPrepared, compute, release

WAIT_KEY = "geosegsr.wait-for-workers"
"""Key in Dask's configuration: how long to wait for workers while there are none."""

_WAIT = "10 minutes"
_UPDATE_S = 1.0
_TICK_S = 0.2
_GOODBYE_S = 2
_BLOCKS_PER_SLOT = 2


@dataclass(frozen=True)
class _Flight:
    """A block that was sent."""

    index: int
    future: Any
    worker: str
    """Address of the worker that is to compute it; empty where there is none yet."""
    movable: bool
    """Whether Dask may give it to another worker."""


class Dispatch:
    """Sends the blocks of one run and returns their results."""

    def __init__(
        self, client: Any, run_id: str, members: Members, indices: Sequence[int], cancelled: threading.Event
    ) -> None:
        """Prepare to send.

        Args:
            client: A synchronous client of `distributed`.
            run_id: Identifier of the run.
            members: The workers.
            indices: Numbers of the blocks.
            cancelled: Set by another thread to end the run.

        Raises:
            ConfigError: Dask's configuration holds no valid time to wait.
        """
        self._client = client
        self._run_id = run_id
        self._members = members
        self._waiting = BlockQueue(indices)
        self._losses: Counter[int] = Counter()
        self._flights: dict[Any, _Flight] = {}
        self._cancelled = cancelled
        self._wait_s = _seconds_to_wait()
        self._next_update = 0.0
        self._idle_since: float | None = None
        self._reported_idle = False
        self._serial = 0

    def run(self, on_done: Callable[[Any], None]) -> None:
        """Send blocks and hand their results to `on_done` until none is left.

        Raises:
            JobError: No worker came or none passed, the scheduler was lost, or a block keeps ending its workers.
            Cancelled: The run was cancelled.
        """
        try:
            while self._waiting or self._flights:
                if self._cancelled.is_set():
                    raise Cancelled("The run was asked to stop.")
                self._update()
                self._wait_for_workers()
                self._send_more()
                for result in self._results():
                    on_done(result)
        except BaseException:
            self._abandon()
            raise

    def _update(self) -> None:
        """Once a second, find out which workers there are, and whether the scheduler still answers."""
        if self._client.status != "running":
            raise self._lost()
        if time.monotonic() < self._next_update:
            return
        with self._answering():
            self._members.update()
        for flight in list(self._flights.values()):
            if flight.worker and flight.worker not in self._members.slots:
                self._lost_worker(flight)  # Dask keeps it waiting where no other worker may have it
        self._next_update = time.monotonic() + _UPDATE_S

    def _wait_for_workers(self) -> None:
        """Allow for a time without workers, up to the limit."""
        members = self._members
        if members.slot_count:
            self._idle_since, self._reported_idle = None, False
            return
        self._idle_since = self._idle_since or time.monotonic()
        idle = time.monotonic() - self._idle_since
        if members.all_rejected and (idle > self._wait_s or not members.had_some):
            raise JobError(members.why_none())
        address = self._client.scheduler.address
        if not self._reported_idle and (members.empty or members.all_rejected or idle > LATE_S):
            warn(f"the scheduler at {address} has {members.why_idle()}: waiting, up to {self._wait_s:g} s")
            self._reported_idle = True
        if idle > self._wait_s:
            raise JobError(
                f"Cannot continue: the scheduler at {address} has had no workers that answer for {self._wait_s:g} s. "
                "Start some with `dask worker`, and repeat the same command: finished blocks are kept. "
                "DASK_GEOSEGSR__WAIT_FOR_WORKERS=2h waits longer."
            )

    def _send_more(self) -> None:
        # A cluster that starts workers on demand must see demand.
        most = 1 if self._members.empty else _BLOCKS_PER_SLOT * self._members.slot_count
        while self._waiting and len(self._flights) < most:
            self._send()

    def _send(self) -> None:
        """Send a block to the worker with the fewest for its size, from that worker's own segment."""
        slots = self._members.slots
        load = Counter(flight.worker for flight in self._flights.values())
        worker = min(slots, key=lambda address: load[address] / slots[address], default="")
        self._waiting.retain(slots)
        index = self._waiting.next_for(worker)
        movable = self._members.all_accepted
        key = (f"geosegsr-block-{self._run_id}", index, self._serial)
        self._serial += 1
        future = self._client.submit(
            compute,
            self._run_id,
            index,
            key=key,
            pure=False,
            workers=[worker] if worker else None,
            allow_other_workers=movable and bool(worker),
            resources={"GPU": 1} if self._members.wants_gpu else None,
        )
        self._flights[key] = _Flight(index, future, worker, movable)
        future.add_done_callback(self._members.events.put)

    def _lost_worker(self, flight: _Flight) -> None:
        """Send a block again whose worker is gone, unless this happened to it more often than Dask allows."""
        self._losses[flight.index] += 1
        if self._losses[flight.index] > dask.config.get("distributed.scheduler.allowed-failures"):
            raise _ends_workers(flight.index, flight.worker)
        self._send_again(flight)

    def _send_again(self, flight: _Flight) -> None:
        del self._flights[flight.future.key]
        flight.future.release()
        self._waiting.put_back(flight.index)

    def _results(self) -> Iterator[Any]:
        """Results that have arrived, after a short wait if there are none."""
        finished = []
        for future in self._events():
            with self._answering():
                is_check = self._members.handle(future)
            flight = self._flights.get(future.key)
            if is_check or flight is None:
                continue
            if future.status == "error":
                self._failed(flight)
            elif future.status == "finished":
                finished.append(flight)
            elif future.status == "cancelled":
                raise self._lost()
            else:  # the worker that held the result is gone; Dask has it computed again
                future.add_done_callback(self._members.events.put)
        for flight, result in self._gathered(finished) if finished else ():
            if isinstance(result, NotPrepared):
                self._members.lost_work(result.address)
                self._send_again(flight)
                self._next_update = 0
                continue
            if isinstance(result, Failure):
                raise result.kind(result.message)
            del self._flights[flight.future.key]
            flight.future.release()
            yield result

    def _events(self) -> Iterator[Any]:
        with suppress(queue.Empty):
            yield self._members.events.get(timeout=_TICK_S)
            while True:
                yield self._members.events.get_nowait()

    def _gathered(self, flights: Sequence[_Flight]) -> Sequence[tuple[_Flight, Any]]:
        """Results with their blocks; none if a worker that holds one left meanwhile, and all come again."""
        futures = [flight.future for flight in flights]
        try:
            with self._answering(TimeoutError):
                results = self._client.sync(
                    lambda: self._client.gather(futures, asynchronous=True), callback_timeout=ANSWER_S
                )
        except TimeoutError:
            for future in futures:
                future.add_done_callback(self._members.events.put)
            return ()
        return list(zip(flights, results, strict=True))

    def _failed(self, flight: _Flight) -> None:
        from distributed import KilledWorker

        error = flight.future.exception()
        if isinstance(error, KilledWorker):
            raise _ends_workers(flight.index, error.last_worker.address) from error
        self._next_update = 0
        self._update()
        if self._members.all_accepted or not flight.movable:
            flight.future.result()  # raises it with its traceback
        self._send_again(flight)  # perhaps it met a worker that just joined and cannot even load geosegsr

    @contextmanager
    def _answering(self, *expected: type[Exception]) -> Iterator[None]:
        """Turn a scheduler that does not answer into our error."""
        from concurrent.futures import CancelledError

        try:
            yield
        except expected:
            raise
        except (OSError, CancelledError) as error:
            raise self._lost() from error

    def _lost(self) -> JobError:
        return JobError(
            f"Cannot continue: the scheduler at {self._client.scheduler.address} was lost; it ended, was restarted or "
            "cannot be reached. Finished blocks are kept: repeat the same command once it runs again."
        )

    def _abandon(self) -> None:
        """Drop what is in flight; workers stop before their next tile. Nothing here may take long or fail."""

        def drop() -> None:
            with suppress(Exception):
                self._client.cancel([flight.future for flight in self._flights.values()], force=True)
                self._client.run(release, self._run_id, on_error="ignore")

        if self._client.status == "running":
            goodbye = threading.Thread(target=drop, daemon=True)
            goodbye.start()
            goodbye.join(_GOODBYE_S)


def _ends_workers(index: int, last: str) -> JobError:
    return JobError(
        f"Cannot finish block {index}: it ended worker {last} and those before it, most likely for want of memory. "
        "The other finished blocks are kept: repeat the same command with fewer --workers or with workers of fewer "
        "threads, or with --no-resume and a smaller --block."
    )


def _seconds_to_wait() -> float:
    """Seconds to wait for workers while there are none."""
    wanted = dask.config.get(WAIT_KEY, _WAIT)
    try:
        return float(parse_timedelta(wanted))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Cannot wait '{wanted}' for workers: that is no time. Set DASK_GEOSEGSR__WAIT_FOR_WORKERS=2h, or 30s."
        ) from error
