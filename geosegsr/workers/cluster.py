"""Runs blocks on a Dask cluster; `members` decides which workers may help, `dispatch` sends the blocks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from geosegsr.errors import SceneError
from geosegsr.version import __version__
from geosegsr.workers.dispatch import Dispatch
from geosegsr.workers.members import Members
from geosegsr.workers.worker import Work, pack


def run_on_cluster(
    client: Any,
    work: Work,
    indices: Sequence[int],
    on_done: Callable[[Any], None],
    *,
    shared_folder: Path | None,
    cancelled: threading.Event,
    told: set[tuple[str, str]],
) -> None:
    """Compute blocks on the workers of a cluster, and hand each result to `on_done`.

    Args:
        client: A synchronous client of `distributed`.
        work: What to do, and what a worker must have for it.
        indices: Numbers of the blocks.
        on_done: Called in this thread.
        shared_folder: Must be the same folder for every worker; None where they share none.
        cancelled: Set by another thread to end the run.
        told: Addresses of rejected workers and why, of which the user knows; more are added.

    Raises:
        JobError: No worker came or none passed, the scheduler was lost, or a block keeps ending its workers.
        SceneError: The shared folder cannot be written.
        Cancelled: `cancelled` was set.
    """
    run_id = uuid.uuid4().hex[:12]
    with _token(shared_folder, run_id) as token:
        members = Members(client, run_id, (__version__, token, pack(work)), told)
        Dispatch(client, run_id, members, indices, cancelled).run(on_done)


@contextmanager
def _token(folder: Path | None, run_id: str) -> Iterator[Path | None]:
    """A file that every worker must find, for as long as the run takes; None without a folder."""
    if folder is None:
        yield None
        return
    token = folder.absolute() / f"run-{run_id}"
    try:
        with token.open("x") as file:
            file.write(run_id)
    except OSError as error:
        raise SceneError(
            f"Cannot write to '{folder}': {error.strerror or error}. Free some space or fix the cause, and repeat the same "
            "command."
        ) from error
    try:
        yield token
    finally:
        with suppress(OSError):
            token.unlink()
