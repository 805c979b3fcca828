"""What the code that runs a block passes to it: how many cores it may use, when to stop, and whom to tell of tiles.

Likewise what the code that prepares a run passes to it: whom to tell of what begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from geosegsr.errors import Cancelled

cores_of_a_block: ContextVar[int | None] = ContextVar("cores_of_a_block", default=None)
"""CPU cores for one block, set in each thread that computes blocks; None where one call may use the whole machine."""
stop_requested: ContextVar[Callable[[], bool]] = ContextVar("stop_requested", default=lambda: False)
"""Called in each thread that renders, before every call of a model; see `check_stop`."""

on_tiles: ContextVar[Callable[[int], None]] = ContextVar("on_tiles", default=lambda count: None)
"""Called in each thread that renders, with the number of tiles that are done since the last call: computed, cached or empty."""

on_stage: ContextVar[Callable[[str], None]] = ContextVar("on_stage", default=lambda stage: None)
"""Called in the thread that prepares a run, with what begins that may take seconds: in words, such as "loading the model"."""


on_step: ContextVar[Callable[[float | None, int | None], None]] = ContextVar(
    "on_step", default=lambda share, written: None
)
"""Called while a result is put together and verified: with the share of the step that is done, 0 to 1, or with None and the
bytes that were written so far."""

_TOLD_SHARE = 0.005


class Share:
    """Counts the work of a step, and tells its share; see `on_step`."""

    def __init__(self, total: int) -> None:
        """Nothing is done.

        Args:
            total: All of the work, in any unit.
        """
        self._total, self._done, self._told = max(total, 1), 0, 0.0
        on_step.get()(0.0, None)

    def add(self, amount: int) -> None:
        """More of the work is done."""
        self._done += amount
        share = min(self._done / self._total, 1.0)
        if share >= self._told + _TOLD_SHARE or (share == 1 and self._told < 1):
            self._told = share
            on_step.get()(share, None)


def begin(stage: str) -> None:
    """Say what begins; see `on_stage`."""
    on_stage.get()(stage)


def check_stop() -> None:
    """Stop the work of this thread if its run is to stop.

    Raises:
        Cancelled: The run was asked to stop.
    """
    if stop_requested.get()():
        raise Cancelled("The run was asked to stop.")
