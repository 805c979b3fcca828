"""Scenes that share one engine take turns, so that the first result is ready as early as if it were alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from geosegsr.errors import Cancelled
from geosegsr.workers.engine import Engine

T = TypeVar("T")


class Turns:
    """An engine that begins a run once earlier runs have fewer blocks left than it computes at a time."""

    def __init__(self, engine: Engine, blocks_at_a_time: int) -> None:
        self._engine = engine
        self._most = blocks_at_a_time
        self._left = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._cancelled = False

    def run(
        self,
        work: Callable[[int], T],
        indices: Sequence[int],
        on_done: Callable[[T], None],
        **options: Any,
    ) -> None:
        """As `Engine.run`, once it is this run's turn."""
        left = len(indices)
        self._begin(left)

        def count(result: T) -> None:
            nonlocal left
            left -= 1
            self._leave(1)
            on_done(result)

        try:
            self._engine.run(work, indices, count, **{**options, "together": self._most})
        finally:
            self._leave(left)

    def cancel(self) -> None:
        """Stop all runs, those that wait for their turn too."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self._engine.cancel()

    def _begin(self, blocks: int) -> None:
        turn = object()
        with self._changed:
            self._queue.append(turn)
            self._changed.wait_for(
                lambda: self._cancelled or (self._queue[0] is turn and self._left < self._most)
            )
            self._queue.remove(turn)
            if self._cancelled:
                raise Cancelled("The run was asked to stop.")
            self._left += blocks
            self._changed.notify_all()

    def _leave(self, blocks: int) -> None:
        with self._changed:
            self._left -= blocks
            self._changed.notify_all()
