"""How far the blocks of a run are, tile by tile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection

from geosegsr.pipeline.plan import Plan
from geosegsr.pipeline.report import Progress


class BlockProgress:
    """Counts blocks and tiles, and tells after each."""

    def __init__(self, planned: Plan, done: Collection[int], tell: Callable[[Progress], None]) -> None:
        """Tell of the start.

        Args:
            planned: The plan of the run.
            done: Blocks that an earlier run finished.
            tell: Called after each tile and each block, from any thread, one call at a time.
        """
        groups = len(planned.rendering.groups)
        self._tiles = [block.tiles * groups for block in planned.grid.blocks]
        self._active: Counter[int] = Counter()
        self._done, self._resumed = set(done), len(done)
        self._tell = tell
        self._lock = threading.RLock()
        self._say()

    def tiles(self, index: int, count: int) -> None:
        """Some tiles of a block are done."""
        with self._lock:
            if count and index not in self._done:
                self._active[index] += count
                self._say()

    def block(self, index: int) -> None:
        """A block is done."""
        with self._lock:
            self._done.add(index)
            self._active.pop(index, None)
            self._say()

    def _say(self) -> None:
        finished = sum(self._tiles[index] for index in self._done)
        active = sum(min(count, self._tiles[index]) for index, count in self._active.items())
        share = (finished + active) / max(sum(self._tiles), 1)
        self._tell(Progress(len(self._done), len(self._tiles), self._resumed, "blocks", share))
