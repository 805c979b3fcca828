"""What happens in a worker's own process: it is looked at, gets the work, and computes blocks by their numbers.

The work itself travels once to each worker, with its check. A worker that has not passed has nothing to compute a
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
from geosegsr.version import __version__

# File systems on a network may show a new file a moment late.
_LATE_FILE_S = 2
_MOST_RUNS = 64


@dataclass(frozen=True)
class Capacity:
    """What a worker process has for its blocks."""

    threads: int
    """Blocks at a time."""
    cores: int
    """Of the processor, for each block."""
    gpus: float
    """GPUs that it declares as a resource; 0 where it declares none."""
    memory_bytes: int
    """Limit of the process; 0 where it has none."""


Check: TypeAlias = Callable[[Capacity], str]
"""Looks at the process it runs in, raises GeoSegSRError where the work could not be done there, and names the kind of
device it would be done on: "cpu" or "cuda", or "" where that makes no difference."""


@dataclass(frozen=True)
class Admission:
    """A worker that may compute blocks."""

    capacity: Capacity
    device: str


@dataclass(frozen=True)
class Refusal:
    """A worker that may not, and why: whole sentences."""

    reason: str


@dataclass(frozen=True)
class Stranger:
    """A worker that was sent a block before it was admitted."""

    address: str


@dataclass(frozen=True)
class Failure:
    """One of our errors on its way from a worker: its cause may be of a kind that cannot travel."""

    kind: type[GeoSegSRError]
    message: str


@dataclass(frozen=True)
class _Work:
    compute: Callable[[int], Any]
    cores: int
    dismissed: threading.Event = field(default_factory=threading.Event)


# By run and worker: several workers may live in one process.
_admitted: dict[tuple[str, str], _Work] = {}
_lock = threading.Lock()


def pack(work: Callable[[int], Any], check: Check | None) -> bytes:
    """Work and check as they travel."""
    packed: bytes = cloudpickle.dumps((work, check))
    return packed


def admit(run_id: str, version: str, token: Path, cores: int | None, packed: bytes) -> Admission | Refusal:
    """Look at this process and, if it passes, keep the work for the blocks to come.

    Args:
        run_id: Of the run.
        version: Of geosegsr where the run was started.
        token: A file in the folder that everyone must share; it holds the run's id.
        cores: Cores of this worker; None for as many as it has threads.
        packed: From `pack`.
    """
    if version != __version__:
        return Refusal(
            f"it runs geosegsr {__version__}, this is {version}. Install the same version on all workers."
        )
    fault = _folder_fault(run_id, token)
    if fault is not None:
        return fault
    capacity = _capacity(cores)
    try:
        work, check = cloudpickle.loads(packed)
        device = "" if check is None else check(capacity)
    except GeoSegSRError as error:
        return Refusal(str(error))
    with _lock:
        while len(_admitted) >= _MOST_RUNS:  # of runs that were killed; one at work would be admitted again
            del _admitted[next(iter(_admitted))]
        _admitted[_key(run_id)] = _Work(work, capacity.cores)
    return Admission(capacity, device)


def attempt(run_id: str, index: int) -> Any:
    """Compute a block.

    Returns:
        What the work returns; a Stranger where this process was not admitted; a Failure for one of our errors.
    """
    work = _admitted.get(_key(run_id))
    if work is None:
        return Stranger(_this_worker().address)
    stop_requested.set(work.dismissed.is_set)
    cores_of_a_block.set(work.cores)
    try:
        return work.compute(index)
    except GeoSegSRError as error:
        return Failure(type(error), str(error))


def dismiss(run_id: str) -> None:
    """Forget a run; its blocks that are at work stop at their next tile."""
    with _lock:
        ended = [_admitted.pop(key) for key in list(_admitted) if key[0] == run_id]
    for work in ended:
        work.dismissed.set()


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


def _folder_fault(run_id: str, token: Path) -> Refusal | None:
    deadline = time.monotonic() + _LATE_FILE_S
    while not token.exists():
        if time.monotonic() > deadline:
            return Refusal(
                f"it does not see the folder '{token.parent}'. "
                "Pass -o in a folder that this machine and all workers share."
            )
        time.sleep(0.1)
    trial = token.with_name(f"{token.name}-{uuid.uuid4().hex[:8]}")
    try:
        trial.write_text(run_id)
        trial.unlink()
    except OSError as error:
        return Refusal(
            f"it cannot write to the folder '{token.parent}' ({error.strerror or error}). "
            "Run it as a user who may, or pass another -o."
        )
    return None
