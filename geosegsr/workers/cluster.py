"""Blocks on a Dask cluster: which workers may help, how many blocks are in flight, and what becomes of losses.

    look     every second: workers that came are checked, those that left are forgotten
    fill     as many blocks are in flight as the admitted workers can hold, and a few more
    take     results go to the caller; a block that met a worker not admitted is sent again

Each worker has blocks of a stretch of its own, which Dask may move to an idle one as long as all workers are admitted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask
from dask.utils import parse_timedelta

from geosegsr.errors import Cancelled, ConfigError, JobError, SceneError
from geosegsr.notices import warn
from geosegsr.version import __version__
from geosegsr.workers.block_queue import Stretches
from geosegsr.workers.worker import (
    Admission,
    Check,
    Failure,
    Refusal,
    Stranger,
    admit,
    attempt,
    dismiss,
    pack,
)

log = logging.getLogger("geosegsr")

T = TypeVar("T")

WAIT_KEY = "geosegsr.wait-for-workers"
"""Key in Dask's configuration: how long to wait for workers while there are none."""

_WAIT = "10 minutes"
_LOOK_S = 1.0
_TICK_S = 0.2
_ANSWER_S = 30
_GOODBYE_S = 2
# Workers that are busy with the work of others answer late; those that answer decide for them.
_MUSTER_S = 30
_BLOCKS_A_THREAD = 2


def run_on_cluster(
    client: Any,
    work: Callable[[int], T],
    indices: Sequence[int],
    on_done: Callable[[T], None],
    *,
    check: Check | None,
    shared_folder: Path,
    cores: int | None,
    cancelled: threading.Event,
) -> None:
    """Call `work` on every index on the workers of a cluster, and hand each result to `on_done`.

    Args:
        client: A synchronous client of `distributed`.
        work: Picklable; small results.
        indices: What to work on.
        on_done: Called in this thread.
        check: Run on each worker before it gets work; None for no check but version and folder.
        shared_folder: Must be the same folder for every worker.
        cores: Threads that one block's model may use; None for as many as Dask gave each worker.
        cancelled: Set by another thread to end the run.

    Raises:
        JobError: No worker came or none passed, the scheduler was lost, or a block keeps ending its workers.
        Cancelled: `cancelled` was set.
    """
    run_id = uuid.uuid4().hex[:12]
    with _token(shared_folder, run_id) as token:
        crew = _Crew(client, run_id, (__version__, token, cores, pack(work, check)))
        _Run(client, run_id, crew, indices, cancelled).to_the_end(on_done)


@contextmanager
def _token(folder: Path, run_id: str) -> Iterator[Path]:
    """A file that a worker must find, for as long as the run takes."""
    token = folder.absolute() / f"run-{run_id}"
    try:
        token.write_text(run_id)
    except OSError as error:
        raise SceneError(
            f"Cannot write to '{folder}': {error.strerror or error}. Free some space or fix the cause, and repeat the same "
            "command again."
        ) from error
    try:
        yield token
    finally:
        with suppress(OSError):
            token.unlink()


def _patience() -> float:
    """Seconds to wait for workers while there are none."""
    wanted = dask.config.get(WAIT_KEY, _WAIT)
    try:
        return float(parse_timedelta(wanted))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Cannot wait '{wanted}' for workers: that is no time. Set DASK_GEOSEGSR__WAIT_FOR_WORKERS=2h, or 30s."
        ) from error


class _Crew:
    """The workers of a cluster, as one run sees them."""

    def __init__(self, client: Any, run_id: str, terms: tuple[Any, ...]) -> None:
        self._client = client
        self._run_id = run_id
        self._terms = terms
        self._members: dict[str, Admission | Refusal | None] = {}  # None: its check is under way
        self._checks: dict[Any, tuple[str, Any]] = {}  # key -> address, future
        self._device: str | None = None  # not known before the first workers have answered
        self._first_answer = 0.0
        self._told: set[str] = set()
        self.wants_gpu = False
        self.had_some = False
        """Whether there ever was an admitted worker."""
        self.members: dict[str, int] = {}
        """The admitted workers, and how many blocks each computes at a time."""
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def slots(self) -> int:
        """Blocks that the admitted workers compute at a time."""
        return sum(self.members.values())

    @property
    def empty(self) -> bool:
        return not self._members

    @property
    def complete(self) -> bool:
        """Whether all workers that are there are admitted."""
        return all(isinstance(m, Admission) for m in self._members.values())

    @property
    def hopeless(self) -> bool:
        """Whether there are workers, and every one was refused."""
        return bool(self._members) and all(isinstance(m, Refusal) for m in self._members.values())

    def look(self) -> None:
        """See who came and who left, and check those who came."""
        present = self._client.nthreads(callback_timeout=_ANSWER_S)
        for address in self._members.keys() - present.keys():
            self.forget(address)
        for address in present.keys() - self._members.keys():
            self._members[address] = None
            key = (f"geosegsr-check-{self._run_id}", address, uuid.uuid4().hex[:8])
            future = self._client.submit(
                admit, self._run_id, *self._terms, key=key, pure=False, workers=[address]
            )
            self._checks[key] = address, future
            future.add_done_callback(self.events.put)
        self._settle()

    def forget(self, address: str) -> None:
        """Treat a worker as new, should it still be there."""
        self._members.pop(address, None)
        for key in [key for key, (checked, _) in self._checks.items() if checked == address]:
            _, future = self._checks.pop(key)
            future.release()

    def take(self, future: Any) -> bool:
        """Hear the outcome of a check; False if this is no check."""
        if future.key not in self._checks:
            return False
        address, _ = self._checks.pop(future.key)
        if future.status == "finished":
            try:
                self._members[address] = future.result(timeout=_ANSWER_S)
            except TimeoutError:  # it left with its answer
                self.forget(address)
                return True
        elif future.status == "error":
            fault = " ".join(str(future.exception()).split())
            self._members[address] = Refusal(
                f"it cannot run geosegsr ({fault}). Install geosegsr {__version__} on all workers."
            )
        else:
            self.forget(address)
            return True
        self._first_answer = self._first_answer or time.monotonic()
        self._settle()
        return True

    def stranger(self, address: str) -> None:
        """Hear of a worker that had a block and no work; one that was admitted must have started anew."""
        if isinstance(self._members.get(address), Admission):
            self.forget(address)

    def refusals(self) -> str:
        """Why nobody is left, as an error says it."""
        groups = self._refused(self._members)
        reason, addresses = next(iter(groups.items()))
        others = len(self._members) - len(addresses)
        more = f" {others} more were refused for other reasons." if others else ""
        return f"Cannot use worker {_names(addresses)}: {reason}{more}"

    def _settle(self) -> None:
        """Work out who may have blocks; tell of those who may not, as long as somebody may."""
        if self._device is None and not self._mustered():
            return
        for address, member in self._members.items():
            if isinstance(member, Admission) and (misfit := self._misfit(member)):
                self._members[address] = Refusal(misfit)
        admitted = {a: m for a, m in self._members.items() if isinstance(m, Admission)}
        self.members = {
            address: slots for address, member in admitted.items() if (slots := self._slots(member))
        }
        self.had_some = self.had_some or bool(admitted)
        if admitted:
            news = self._refused(self._members.keys() - self._told)
            self._told.update(*news.values())
            for reason, addresses in news.items():
                warn(f"no work for worker {_names(addresses)}: {reason.rstrip('.')}")

    def _mustered(self) -> bool:
        """Decide the kind of device once the workers that were there at the start have answered."""
        admitted = [member for member in self._members.values() if isinstance(member, Admission)]
        late = time.monotonic() - self._first_answer > _MUSTER_S
        if not admitted or (self._checks and not late):
            return False
        self._device = max(
            member.device for member in admitted
        )  # by the alphabet "cuda" beats "cpu" beats ""
        self.wants_gpu = self._device == "cuda" and any(member.capacity.gpus >= 1 for member in admitted)
        return True

    def _misfit(self, member: Admission) -> str:
        if member.device != self._device:
            return (
                f"it would compute on '{member.device}', other workers compute on '{self._device}', and the blocks "
                f"of a result come from one kind of device. Pass --device {member.device} to use this kind."
            )
        if self.wants_gpu and member.capacity.gpus < 1:
            return "it has a GPU but does not declare it, as others do. Start it with --resources GPU=1."
        return ""

    def _slots(self, member: Admission) -> int:
        threads = member.capacity.threads
        return min(threads, int(member.capacity.gpus)) if self.wants_gpu else threads

    def _refused(self, addresses: Iterable[str]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for address in sorted(addresses):
            member = self._members.get(address)
            if isinstance(member, Refusal):
                groups.setdefault(member.reason, []).append(address)
        return groups


def _names(addresses: Sequence[str]) -> str:
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return ", ".join(addresses[:3]) + more


@dataclass(frozen=True)
class _Flight:
    """A block on its way."""

    index: int
    future: Any
    wanted: str
    """The worker that is to have it; empty where there is none yet."""
    movable: bool
    """Whether Dask may give it to another one."""


def _ends_workers(index: int, last: str) -> JobError:
    return JobError(
        f"Cannot finish block {index}: it ended {last} and the workers before it, most likely for want of memory. "
        "The other finished blocks are kept: give the same command again with fewer --workers or with workers of fewer "
        "threads, or with --no-resume and a smaller --block."
    )


class _Run:
    """One run's blocks on their way through a cluster."""

    def __init__(
        self, client: Any, run_id: str, crew: _Crew, indices: Sequence[int], cancelled: threading.Event
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._crew = crew
        self._waiting = Stretches(indices)
        self._falls: Counter[int] = Counter()
        self._flights: dict[Any, _Flight] = {}
        self._cancelled = cancelled
        self._patience = _patience()
        self._next_look = 0.0
        self._idle_since: float | None = None
        self._told_of_idleness = False
        self._serial = 0

    def to_the_end(self, on_done: Callable[[Any], None]) -> None:
        """Send blocks and take their results until none is left."""
        try:
            while self._waiting or self._flights:
                if self._cancelled.is_set():
                    raise Cancelled("The run was asked to stop.")
                self._look()
                self._mind_the_crew()
                self._fill()
                for result in self._results():
                    on_done(result)
        except BaseException:
            self._abandon()
            raise

    def _look(self) -> None:
        """Once a second: who is there, and whether the scheduler still answers."""
        if self._client.status != "running":
            raise self._lost()
        if time.monotonic() < self._next_look:
            return
        with self._answering():
            self._crew.look()
        for flight in list(self._flights.values()):
            if flight.wanted and flight.wanted not in self._crew.members:
                self._fell(flight)  # Dask leaves it lying where no other one may have it, or none is there
        self._next_look = time.monotonic() + _LOOK_S

    def _mind_the_crew(self) -> None:
        """Wait for workers where there are none, but not for ever."""
        if self._crew.slots:
            self._idle_since, self._told_of_idleness = None, False
            return
        self._idle_since = self._idle_since or time.monotonic()
        idle = time.monotonic() - self._idle_since
        if self._crew.hopeless and (idle > self._patience or not self._crew.had_some):
            raise JobError(self._crew.refusals())
        address = self._client.scheduler.address
        if not self._told_of_idleness and (self._crew.empty or self._crew.hopeless or idle > _MUSTER_S):
            what = "has no workers" if self._crew.empty else "has only workers that cannot help or are busy"
            warn(f"the scheduler at {address} {what} now: waiting, up to {self._patience:g} s")
            self._told_of_idleness = True
        if idle > self._patience:
            raise JobError(
                f"Cannot go on: the scheduler at {address} has no workers that answer, for {self._patience:g} s now. "
                "Start some with `dask worker`, and give the same command again: finished blocks are kept. "
                "DASK_GEOSEGSR__WAIT_FOR_WORKERS=2h waits longer."
            )

    def _fill(self) -> None:
        # A cluster that starts workers on demand must see demand.
        most = 1 if self._crew.empty else _BLOCKS_A_THREAD * self._crew.slots
        while self._waiting and len(self._flights) < most:
            self._send()

    def _send(self) -> None:
        """A block to whoever has the fewest for its size, of its own stretch."""
        members = self._crew.members
        load = Counter(flight.wanted for flight in self._flights.values())
        wanted = min(members, key=lambda address: load[address] / members[address], default="")
        self._waiting.keep(members)
        index = self._waiting.next_for(wanted)
        movable = self._crew.complete
        key = (f"geosegsr-block-{self._run_id}", index, self._serial)
        self._serial += 1
        future = self._client.submit(
            attempt,
            self._run_id,
            index,
            key=key,
            pure=False,
            workers=[wanted] if wanted else None,
            allow_other_workers=movable and bool(wanted),
            resources={"GPU": 1} if self._crew.wants_gpu else None,
        )
        self._flights[key] = _Flight(index, future, wanted, movable)
        future.add_done_callback(self._crew.events.put)

    def _fell(self, flight: _Flight) -> None:
        """Send a block again whose worker is gone; one that this happens to as often as Dask allows is at fault."""
        self._falls[flight.index] += 1
        if self._falls[flight.index] > dask.config.get("distributed.scheduler.allowed-failures"):
            raise _ends_workers(flight.index, flight.wanted)
        self._send_again(flight)

    def _send_again(self, flight: _Flight) -> None:
        del self._flights[flight.future.key]
        flight.future.release()
        self._waiting.put_back(flight.index)

    def _results(self) -> Iterator[Any]:
        """What has come in, waiting a moment if that is nothing."""
        finished = []
        for future in self._events():
            with self._answering():
                is_check = self._crew.take(future)
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
                future.add_done_callback(self._crew.events.put)
        for flight, result in self._gathered(finished) if finished else ():
            if isinstance(result, Stranger):
                self._crew.stranger(result.address)
                self._send_again(flight)
                self._next_look = 0
                continue
            if isinstance(result, Failure):
                raise result.kind(result.message)
            del self._flights[flight.future.key]
            flight.future.release()
            yield result

    def _events(self) -> Iterator[Any]:
        with suppress(queue.Empty):
            yield self._crew.events.get(timeout=_TICK_S)
            while True:
                yield self._crew.events.get_nowait()

    def _gathered(self, flights: Sequence[_Flight]) -> Sequence[tuple[_Flight, Any]]:
        """Results with their blocks; none where a worker that holds one left meanwhile, and all come again."""
        futures = [flight.future for flight in flights]
        try:
            with self._answering(TimeoutError):
                results = self._client.sync(
                    lambda: self._client.gather(futures, asynchronous=True), callback_timeout=_ANSWER_S
                )
        except TimeoutError:
            for future in futures:
                future.add_done_callback(self._crew.events.put)
            return ()
        return list(zip(flights, results, strict=True))

    def _failed(self, flight: _Flight) -> None:
        from distributed import KilledWorker

        error = flight.future.exception()
        if isinstance(error, KilledWorker):
            raise _ends_workers(flight.index, error.last_worker.address) from error
        self._next_look = 0
        self._look()
        if self._crew.complete or not flight.movable:
            flight.future.result()  # raises it where it can be traced
        self._send_again(flight)  # perhaps a worker had it that just came and cannot even load geosegsr

    @contextmanager
    def _answering(self, *expected: type[Exception]) -> Iterator[None]:
        """Turns a scheduler that does not answer into our error."""
        from concurrent.futures import CancelledError

        try:
            yield
        except expected:
            raise
        except (OSError, CancelledError) as error:
            raise self._lost() from error

    def _lost(self) -> JobError:
        return JobError(
            f"Cannot go on: the scheduler at {self._client.scheduler.address} was lost; it ended, was restarted or "
            "cannot be reached. The finished blocks are kept: give the same command again once it runs."
        )

    def _abandon(self) -> None:
        """Let go of what is in flight: workers stop at their next tile. Nothing here may take long or fail."""

        def let_go() -> None:
            with suppress(Exception):
                self._client.cancel([flight.future for flight in self._flights.values()], force=True)
                self._client.run(dismiss, self._run_id, on_error="ignore")

        if self._client.status == "running":
            goodbye = threading.Thread(target=let_go, daemon=True)
            goodbye.start()
            goodbye.join(_GOODBYE_S)
