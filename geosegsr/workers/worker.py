"""What runs in a worker's own process: it is checked, receives the work, and computes blocks by their numbers.

The work travels once to each worker, together with its check. A worker that has not passed has nothing to compute a
block with, whenever it joined and whoever sent it one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import cloudpickle

from geosegsr.context import cores_of_a_block, stop_requested
from geosegsr.errors import GeoSegSRError
from geosegsr.files import exists
from geosegsr.version import __version__

# Network file systems may show a new file a moment late.
_LATE_FILE_S = 2
_MOST_RUNS = 64


@dataclass(frozen=True)
class Capacity:
    """What a worker process has for its blocks."""

    threads: int
    """Blocks computed at a time."""
    cores: int
    """CPU cores for each block."""
    gpus: float
    """GPUs that it declares as a resource; 0 where it declares none."""
    memory_bytes: int
    """Memory limit of the process; 0 where it has none."""


Check: TypeAlias = Callable[[Capacity], str]
"""Checks the process it runs in. It raises GeoSegSRError where the work cannot be done there, and otherwise returns the
kind of device that would do it: "cpu" or "cuda", or "" where that makes no difference."""


@dataclass(frozen=True)
class Work:
    """What every worker needs of a run."""

    compute: Callable[[int], Any]
    """Computes the block of a number; picklable, with small results."""
    check: Check | None = None
    """Runs in each worker before it gets blocks; None to check only version and folder."""
    cores: int | None = None
    """CPU cores that a worker may use; None for as many as Dask gave it threads."""


@dataclass(frozen=True)
class Accepted:
    """A worker that may compute blocks."""

    capacity: Capacity
    device: str
    """What its check returned."""


@dataclass(frozen=True)
class Rejected:
    """A worker that may not compute blocks."""

    reason: str
    """Whole sentences."""


@dataclass(frozen=True)
class NotPrepared:
    """The answer of a worker that was sent a block before it was accepted."""

    address: str


@dataclass(frozen=True)
class Failure:
    """One of our errors on its way from a worker: its cause may be of a class that cannot be pickled."""

    kind: type[GeoSegSRError]
    message: str


@dataclass(frozen=True)
class _Prepared:
    """The work of a run, unpickled in this process."""

    compute: Callable[[int], Any]
    cores: int
    """For each block."""
    ended: threading.Event = field(default_factory=threading.Event)


# By run and worker: several workers may live in one process.
_prepared: dict[tuple[str, str], _Prepared] = {}
_lock = threading.Lock()


def pack(work: Work) -> bytes:
    """Pickle the work, to be sent to every worker."""
    packed: bytes = cloudpickle.dumps(work)
    return packed


def prepare(run_id: str, version: str, token: Path | None, packed: bytes) -> Accepted | Rejected:
    """Check this process and, if it passes, keep the work for the blocks to come.

    Args:
        run_id: Identifier of the run.
        version: Version of geosegsr where the run was started.
        token: A file in the folder that all workers must share; it holds the run's identifier. None where they share none.
        packed: From `pack`.
    """
    if version != __version__:
        return Rejected(
            f"it runs geosegsr {__version__}, this is {version}. Install the same version on all workers."
        )
    fault = None if token is None else _folder_fault(run_id, token)
    if fault is not None:
        return fault
    try:
        work: Work = cloudpickle.loads(packed)
        capacity = _capacity(work.cores)
        device = "" if work.check is None else work.check(capacity)
    except GeoSegSRError as error:
        return Rejected(str(error))
    with _lock:
        while len(_prepared) >= _MOST_RUNS:  # of runs that were killed; an active one would be prepared again
            del _prepared[next(iter(_prepared))]
        _prepared[_key(run_id)] = _Prepared(work.compute, capacity.cores)
    return Accepted(capacity, device)


def compute(run_id: str, index: int) -> Any:
    """Compute a block.

    Returns:
        What the work returns; NotPrepared where this process does not have the work; Failure for one of our errors.
    """
    work = _prepared.get(_key(run_id))
    if work is None:
        return NotPrepared(_this_worker().address)
    stop_requested.set(work.ended.is_set)
    cores_of_a_block.set(work.cores)
    try:
        return work.compute(index)
    except GeoSegSRError as error:
        return Failure(type(error), str(error))


def release(run_id: str) -> None:
    """Forget the work of a run; its active blocks stop before their next tile."""
    with _lock:
        ended = [_prepared.pop(key) for key in list(_prepared) if key[0] == run_id]
    for work in ended:
        work.ended.set()


def _key(run_id: str) -> tuple[str, str]:
    return run_id, _this_worker().address


def _this_worker() -> Any:
    from distributed import get_worker

    return get_worker()


def _capacity(cores: int | None) -> Capacity:
    worker = _this_worker()
    threads = worker.state.nthreads
    return Capacity(
        threads=threads,
        cores=max(1, (threads if cores is None else cores) // threads),
        gpus=worker.state.total_resources.get("GPU", 0),
        memory_bytes=worker.memory_manager.memory_limit or 0,
    )


def _folder_fault(run_id: str, token: Path) -> Rejected | None:
    deadline = time.monotonic() + _LATE_FILE_S
    while not exists(token):
        if time.monotonic() > deadline:
            return Rejected(
                f"it does not see the folder '{token.parent}'. Pass -o in a folder that this machine and all workers "
                "share, and run all workers as the user of this command."
            )
        time.sleep(0.1)
    trial = token.with_name(f"{token.name}-{uuid.uuid4().hex[:8]}")
    try:
        with trial.open("x") as file:
            file.write(run_id)
        trial.unlink()
    except OSError as error:
        return Rejected(
            f"it cannot write to the folder '{token.parent}' ({error.strerror or error}). "
            "Run it as a user who may write there, or pass another -o."
        )
    return None
