"""Results of tiles that a later block will need again, kept while memory allows.

A tile whose support reaches beyond its block is computed for that block and wanted by the next. What lies
beyond is kept here, least recently used first out. Tiles depend on nothing but the scene, so a result from the
cache is the result; where it is gone, or another process has it, the tile is computed again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, TypeAlias

from numpy.typing import NDArray

from geosegsr.windows import Window

TileKey: TypeAlias = tuple[int, int, int]
"""Band group, tile row, tile column."""


class TileCache:
    """Parts of tiles by tile; safe to use from several threads."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty; hold `limit_bytes` of pixels at most."""
        self._limit = limit_bytes
        self._held = 0
        self._parts: OrderedDict[tuple[TileKey, Window], NDArray[Any]] = OrderedDict()
        self._windows: dict[TileKey, list[Window]] = {}
        self._lock = threading.Lock()

    def get(self, key: TileKey, window: Window, scale: int) -> NDArray[Any] | None:
        """A tile's output over a window (in lr pixels of the region); shape (bands, scale * h, scale * w) or None."""
        with self._lock:
            for kept in self._windows.get(key, ()):
                if kept.contains(window):
                    self._parts.move_to_end((key, kept))
                    part = self._parts[key, kept]
                    inside = window.shifted(-kept.row, -kept.col).scaled(scale)
                    return part[(slice(None), *inside.slices)]
        return None

    def put(self, key: TileKey, window: Window, part: NDArray[Any]) -> None:
        """Keep a copy of a tile's output over a window."""
        with self._lock:
            if (key, window) in self._parts or part.nbytes > self._limit:
                return
            self._parts[key, window] = part.copy()
            self._windows.setdefault(key, []).append(window)
            self._held += part.nbytes
            while self._held > self._limit:
                (old, where), gone = self._parts.popitem(last=False)
                self._windows[old].remove(where)
                self._held -= gone.nbytes
