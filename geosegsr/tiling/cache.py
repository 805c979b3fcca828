"""Results of tiles that a later block will need, kept while memory allows.

A tile whose support reaches beyond its block is computed for that block and needed by the next. The part beyond is kept
here, and the least recently used is dropped first. Tiles depend on the scene alone, so a cached result is exact. If it was
dropped, or another process holds it, the tile is computed again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from geosegsr.raster.window import Window

TileKey: TypeAlias = tuple[int, int, int]
"""Band group, tile row, tile column."""


class TileMemory:
    """The tiles of all runs of a process; safe to use from several threads."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty; hold `limit_bytes` of pixels at most."""
        self._limit = limit_bytes
        self._held = 0
        self._parts: OrderedDict[tuple[str, TileKey, Window], NDArray[Any]] = OrderedDict()
        self._windows: dict[tuple[str, TileKey], list[Window]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Size of all that is kept."""
        return self._held

    def get(self, run: str, key: TileKey, window: Window, scale: int) -> NDArray[Any] | None:
        """See TileCache.get."""
        with self._lock:
            for kept in self._windows.get((run, key), ()):
                if kept.contains(window):
                    self._parts.move_to_end((run, key, kept))
                    part = self._parts[run, key, kept]
                    inside = window.shifted(-kept.row, -kept.col).scaled(scale)
                    return part[(slice(None), *inside.slices)]
        return None

    def put(self, run: str, key: TileKey, window: Window, part: NDArray[Any]) -> None:
        """See TileCache.put."""
        with self._lock:
            if (run, key, window) in self._parts or part.nbytes > self._limit:
                return
            self._parts[run, key, window] = part.copy()
            self._windows.setdefault((run, key), []).append(window)
            self._held += part.nbytes
            while self._held > self._limit:
                (run, key, window), gone = self._parts.popitem(last=False)
                self._held -= gone.nbytes
                windows = self._windows[run, key]
                windows.remove(window)
                if not windows:
                    del self._windows[run, key]

    def forget(self, run: str, key: TileKey) -> None:
        """See TileCache.forget."""
        with self._lock:
            for window in self._windows.pop((run, key), ()):
                self._held -= self._parts.pop((run, key, window)).nbytes


@dataclass(frozen=True)
class TileCache:
    """The tiles of one run."""

    memory: TileMemory
    """Shared with other runs."""
    run: str
    """Identifies the run."""

    def get(self, key: TileKey, window: Window, scale: int) -> NDArray[Any] | None:
        """A tile's output over a window (in lr pixels of the region); shape (bands, scale * h, scale * w) or None."""
        return self.memory.get(self.run, key, window, scale)

    def put(self, key: TileKey, window: Window, part: NDArray[Any]) -> None:
        """Keep a copy of a tile's output over a window."""
        self.memory.put(self.run, key, window, part)

    def forget(self, key: TileKey) -> None:
        """Drop a tile that no later block needs: small arrays that stay keep the system from reusing what is around them."""
        self.memory.forget(self.run, key)
