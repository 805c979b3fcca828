"""What a block is told by whoever runs it: how many cores it may use, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from geosegsr.errors import Cancelled

cores_of_a_block: ContextVar[int | None] = ContextVar("cores_of_a_block", default=None)
"""In a thread that computes blocks; None where one call has the machine for itself."""
stop_requested: ContextVar[Callable[[], bool]] = ContextVar("stop_requested", default=lambda: False)
"""Asked, in each thread that renders, before every call of a model; see `check_stop`."""


def check_stop() -> None:
    """End the work of this thread if its run is to stop.

    Raises:
        Cancelled: It is.
    """
    if stop_requested.get()():
        raise Cancelled("The run was asked to stop.")
